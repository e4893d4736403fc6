"""Looking at a target, preparing it and cleaning it, whatever kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import EdgeCompressError, RecipeError
from edgecompress.targets import Target, TargetSpec, open_target
from edgecompress.targets.base import Progress
from edgecompress.targets.fleet import Fleet, find_fleet, load_fleet
from edgecompress.values import Json

ORDER = ("latency", "memory", "energy", "answers", "instructions")
"""What a target may measure, in the order shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know: what is so, what to do, whether it is missing."""

    what: str
    advice: str
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a target is, as far as it could be seen; `error` says why it could not."""

    spec: TargetSpec
    host: str = ""
    facts: Json | None = None
    can: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: EdgeCompressError | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return self.error is None and not any(finding.missing for finding in self.findings)


def read_fleet(file: Path | None) -> Fleet:
    """Read the fleet file that is named, else the one that is found."""
    return load_fleet(file) if file else find_fleet(Path.cwd())


def named_specs(fleet: Fleet, names: tuple[str, ...]) -> list[TargetSpec]:
    """Give the targets of these names, or all of the fleet; nothing is connected to.

    Raises
    ------
    RecipeError
        When there is no target of a name, or none at all.
    """
    specs = [fleet.find(name) for name in dict.fromkeys(names or tuple(fleet.targets))]
    if not specs:
        raise RecipeError("name a target, or write a targets.yaml that names some")
    for spec in specs:
        try:
            open_target(spec)  # sees that the URL means something
        except RecipeError as error:
            named = spec.name in fleet.targets and fleet.file
            raise RecipeError(
                error.message, file=named or None, key=spec.name if named else ""
            ) from None
    return specs


def can_measure(target: Target) -> tuple[str, ...]:
    """List what a target can measure, in words."""
    return tuple(metric for metric in ORDER if metric in target.metrics)


def _metered(can: tuple[str, ...], facts: Json, spec: TargetSpec) -> tuple[str, ...]:
    """Leave energy out where there is neither a meter nor a file of one."""
    if facts.get("meters") or spec.meter is not None:
        return can
    return tuple(metric for metric in can if metric != "energy")


def look(spec: TargetSpec) -> Seen:
    """Connect to a target and see what it is and lacks; errors are part of the answer."""
    scheme = spec.url.partition("://")[0]
    try:
        return {"ssh": _look_at_board, "emulated": _look_at_emulated}.get(scheme, _look_here)(spec)
    except EdgeCompressError as error:
        return Seen(spec, error=error)


def prepare(spec: TargetSpec, progress: Progress) -> str:
    """Set a target up; say what it has now.

    Raises
    ------
    TargetError
        When it cannot be had; the text says what to do.
    """
    scheme = spec.url.partition("://")[0]
    if scheme == "ssh":
        from edgecompress.targets.ssh.prepare import prepare as prepare_board

        found = prepare_board(spec, progress)
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        return f"{'ready' if found.made else 'was ready already'}: {versions}, in {found.python}"
    if scheme == "emulated":
        from edgecompress.targets.emulated import prepare as prepare_cpu
        from edgecompress.targets.emulated import prepared
        from edgecompress.targets.emulated.setup import ready

        before = prepared(spec.url)
        prepare_cpu(spec.url, progress)
        reason = ready(spec.url).reason
        return ("was ready already" if before else "ready") + (
            f", but instructions are not counted: {reason}" if reason else ""
        )
    return "this machine needs no preparation"


def clean(spec: TargetSpec) -> str:
    """Remove what was left on a target; say how much that was.

    Raises
    ------
    TargetError
        When it cannot be reached, or what is there is not ours to remove.
    """
    scheme = spec.url.partition("://")[0]
    if scheme == "ssh":
        from edgecompress.targets.ssh import Ssh

        return _removed(Ssh(spec).clean(), "")
    if scheme == "emulated":
        from edgecompress.targets.emulated import clean as clean_emulated
        from edgecompress.targets.emulated.setup import emulation_folder

        before = _bytes_below(emulation_folder())
        clean_emulated()
        freed = before - _bytes_below(emulation_folder())
        return _removed(freed, ", which all emulated processors share")
    return "nothing is left on this machine but the store of results"


def _removed(count: int, what: str) -> str:
    if not count:
        return "nothing was left there"
    size = f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
    return f"removed {size}{what}"


def _bytes_below(folder: Path) -> int:
    """Bytes of all files in `folder`, each counted once however often it is linked."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sum({(one.st_dev, one.st_ino): one.st_size for one in found}.values())


def _look_here(spec: TargetSpec) -> Seen:
    target = open_target(spec)
    facts = target.describe()
    can = _metered(can_measure(target), facts, spec)
    return Seen(spec, "", facts, can, (*_clock(facts, spec), *_energy(facts, spec)))


def _look_at_board(spec: TargetSpec) -> Seen:
    from edgecompress.targets.ssh.check import check

    found = check(spec)
    advice = [Finding(one.what, one.advice, one.refused) for one in found.findings]
    if not found.ready:  # what a preparation brings is missing too
        advice = [
            Finding(one.what, one.advice, one.missing or "targets prepare" in one.advice)
            for one in advice
        ]
    if found.facts.get("governor") and spec.any_governor:
        advice = [one for one in advice if "governor" not in one.what]
    return Seen(
        spec,
        found.host,
        found.facts,
        _metered(can_measure(open_target(spec)), found.facts, spec) if found.usable else (),
        (*advice, *_energy(found.facts, spec)),
    )


def _look_at_emulated(spec: TargetSpec) -> Seen:
    from edgecompress.targets.emulated import Emulated, prepared

    target = Emulated.of(spec)
    if not prepared(spec.url):
        run = f"run: edgecompress targets prepare {spec.name}"
        return Seen(
            spec, can=can_measure(target), findings=(Finding("not prepared yet", run, True),)
        )
    reason = target.not_measured("instructions")
    missing = (Finding("instructions are not counted", reason, True),) if reason else ()
    can = tuple(one for one in can_measure(target) if one != "instructions" or not reason)
    facts = target.describe()
    for key in ("memory_bytes", "kernel", "cores"):  # those of the host
        facts.pop(key, None)
    return Seen(spec, "", facts, can, missing)


def _clock(facts: Json, spec: TargetSpec) -> tuple[Finding, ...]:
    governor = facts.get("governor")
    if governor in (None, "performance") or spec.any_governor:
        return ()
    advice = (
        "times are marked invalid under it; run: sudo cpupower frequency-set -g performance "
        "(or set any_governor)"
    )
    return (Finding(f"the frequency governor {governor}", advice),)


def _energy(facts: Json, spec: TargetSpec) -> tuple[Finding, ...]:
    """Find what keeps energy from being measured."""
    if spec.meter is not None and not spec.meter.is_file():
        return (
            Finding(
                f"the power meter's file {spec.meter} is not there",
                "let the meter write it, or correct `meter`",
                missing=True,
            ),
        )
    if spec.meter is None and facts.get("meters") == []:
        advice = "energy is not measured; name the CSV of an external meter as `meter`"
        return (Finding("no energy meter that can be read", advice),)
    return ()
