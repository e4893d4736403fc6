"""Looking at targets, setting them up and cleaning them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.arguments import StrPath, reporting, several
from edgecompress.api.shown import Section, Shown
from edgecompress.errors import EdgeCompressError
from edgecompress.progress import Reporter
from edgecompress.targets import TargetReport, TargetSpec
from edgecompress.targets.fleet import Fleet, find_fleet, load_fleet, named_specs
from edgecompress.targets.kinds import kinds
from edgecompress.targets.spec import can_measure

Names = str | Sequence[str]


@dataclass(frozen=True, slots=True, repr=False)
class TargetList(Shown):
    """The targets of a fleet, and the URLs that need no name.

    Attributes
    ----------
    file : Path or None
        The fleet's; None where there is none.
    targets : tuple of (str, str, str)
        Name, URL and what can be measured there.
    urls : tuple of (str, str)
        URL and what it is.
    """

    file: Path | None
    targets: tuple[tuple[str, str, str], ...]
    urls: tuple[tuple[str, str], ...]

    def sections(self) -> Iterator[Section]:
        """Lay them out."""
        none = "There is no targets.yaml here or in your configuration."
        yield Section(f"{self.file} names" if self.file else none, lines=self.targets)
        yield Section("Without a name", lines=self.urls)


@dataclass(frozen=True, slots=True, repr=False)
class CheckedTargets(Shown):
    """What targets are, and what is missing there."""

    reports: tuple[TargetReport, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is missing anywhere."""
        return all(report.ready for report in self.reports)

    @property
    def exit_code(self) -> int:
        """0 when all are ready, else 1."""
        return 0 if self.ready else 1

    def sections(self) -> Iterator[Section]:
        """Lay out what each is, and what it lacks."""
        for report in self.reports:
            name, url = report.spec.name, report.spec.url
            title = name if url == name else f"{name}  {url}"
            if report.error is not None:
                yield Section(title, notes=(f"✗ {str(report.error).removeprefix(f'{name}: ')}",))
                continue
            facts = target_facts(report)
            facts += [f"can measure {', '.join(report.can)}"] * bool(report.can)
            notes = [f"  {one}" for one in facts]
            for one in report.findings:
                notes.append(f"{'!' if one.level == 'note' else '✗'} {one.what}")
                notes += [f"  {one.advice}"] * bool(one.advice)
            notes += ["✓ ready"] * report.ready
            yield Section(title, notes=tuple(notes))


@dataclass(frozen=True, slots=True)
class TargetDone:
    """What became of one target: a sentence, and the error where it failed."""

    name: str
    text: str
    error: EdgeCompressError | None = None


@dataclass(frozen=True, slots=True, repr=False)
class TargetsDone(Shown):
    """What became of each target that was set up or cleaned."""

    targets: tuple[TargetDone, ...]

    @property
    def exit_code(self) -> int:
        """The greatest of the errors', or 0."""
        return max((one.error.exit_code for one in self.targets if one.error), default=0)

    def sections(self) -> Iterator[Section]:
        """Say it of each."""
        yield Section(
            "",
            notes=tuple(one.text for one in self.targets if one.error is None),
            warnings=tuple(one.text for one in self.targets if one.error is not None),
        )


def list_targets(*, targets: StrPath | None = None) -> TargetList:
    """List the fleet and what each target can measure; nothing is connected to.

    Parameters
    ----------
    targets : path, optional
        File that names targets. Left out, it is the targets.yaml of this folder or of your
        configuration.
    """
    fleet = _fleet(targets)
    lines = []
    for spec in named_specs(fleet, ()) if fleet.targets else ():
        target = spec.open()
        sample = f"; asked {target.samples} examples" if target.samples else ""
        lines.append((spec.name, spec.url, ", ".join(can_measure(target)) + sample))
    urls = tuple(pair for kind in kinds().values() for pair in kind.urls().items())
    return TargetList(fleet.file, tuple(lines), urls)


def check_targets(names: Names = (), *, targets: StrPath | None = None) -> CheckedTargets:
    """Connect to targets (else the whole fleet): what each is, and what is missing.

    Exit code 1 when something is missing or a target cannot be reached.

    Parameters
    ----------
    names : str or sequence of str
        Names of targets in the fleet file (targets.yaml), or URLs that `targets list` shows.
    targets : path, optional
        File that names targets. Left out, it is the targets.yaml of this folder or of your
        configuration.

    Raises
    ------
    RecipeError
        When there is no target of a name. One that cannot be reached is no error: its report
        says why.
    """
    specs = named_specs(_fleet(targets), several(names))
    with ThreadPoolExecutor(len(specs), thread_name_prefix="check") as pool:
        return CheckedTargets(tuple(pool.map(_look, specs)))


def prepare_targets(
    names: Names, *, targets: StrPath | None = None, progress: bool | Reporter = True
) -> TargetsDone:
    """Set targets up: a board's virtual environment, or an emulated processor.

    What is there already is kept. A board needs no network: wheels are carried over to it.

    Parameters
    ----------
    names : str or sequence of str
        Names of targets in the fleet file (targets.yaml), or URLs that `targets list` shows.
    targets : path, optional
        File that names targets. Left out, it is the targets.yaml of this folder or of your
        configuration.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.
    """
    specs = named_specs(_fleet(targets), several(names))
    with reporting(progress) as reporter:
        return TargetsDone(
            tuple(_done(spec, functools.partial(_prepared, spec, reporter)) for spec in specs)
        )


def clean_targets(names: Names, *, targets: StrPath | None = None) -> TargetsDone:
    """Remove what was left on targets, and say how much that was.

    Parameters
    ----------
    names : str or sequence of str
        Names of targets in the fleet file (targets.yaml), or URLs that `targets list` shows.
    targets : path, optional
        File that names targets. Left out, it is the targets.yaml of this folder or of your
        configuration.
    """
    specs = named_specs(_fleet(targets), several(names))
    return TargetsDone(tuple(_done(spec, spec.clean) for spec in specs))


def _fleet(file: StrPath | None) -> Fleet:
    return load_fleet(Path(file)) if file else find_fleet()


def _prepared(spec: TargetSpec, reporter: Reporter) -> str:
    step = ""

    def tell(done: float, total: float, what: str) -> None:
        nonlocal step
        text = what.removeprefix(f"preparing {spec.url}: ")
        if text != step:  # a line per finished step, so that a log shows them too
            if step:
                reporter.end("done")
            reporter.begin(f"{spec.name}: {text}")
            step = text
        reporter.advance(done, total, "")

    try:
        said = spec.prepare(tell)
    except EdgeCompressError:
        if step:
            reporter.end("failed")
        raise
    if step:
        reporter.end("done")
    return said


def _look(spec: TargetSpec) -> TargetReport:
    """Connect to a target and see what it is and lacks; errors are part of the answer."""
    try:
        return spec.check()
    except EdgeCompressError as error:
        return TargetReport(spec, error=error)


def _done(spec: TargetSpec, work: Callable[[], str]) -> TargetDone:
    """Do `work` for one target; a failure stops no other."""
    try:
        return TargetDone(spec.name, f"{spec.name}: {work()}")
    except EdgeCompressError as error:
        text = str(error)
        said = text if text.startswith(spec.name) else f"{spec.name}: {text}"
        return TargetDone(spec.name, said, error)


def target_facts(report: TargetReport) -> list[str]:
    """Lay out a description in a few lines."""
    from edgecompress.report.targets import title

    known = report.facts or {}
    lines = [title(known)]
    parts = [
        known.get("machine"),
        f"{known['cores']} core{'s' * (known['cores'] != 1)}" if known.get("cores") else None,
        " ".join(known.get("isa") or ()),
        f"{known['memory_bytes'] / 1e9:.1f} GB memory" if known.get("memory_bytes") else None,
    ]
    lines.append(" · ".join(part for part in parts if part))
    bits = f"{known['bits']}-bit" if known.get("bits") else None
    kernel = f"kernel {known['kernel']}" if known.get("kernel") else None
    parts = [known.get("system"), kernel, known.get("libc"), bits]
    lines.append(" · ".join(part for part in parts if part))
    libraries = known.get("libraries") or {}
    shown = [f"{name} {libraries[name]}" for name in ("onnxruntime", "numpy", "tokenizers")
             if name in libraries]  # fmt: skip
    python = f"Python {known['python']}" if known.get("python") else None
    lines.append(" · ".join(part for part in [python, *shown] if part))
    governor = f"governor {known['governor']}" if known.get("governor") else None
    meters = f"energy meters: {', '.join(known['meters'])}" if known.get("meters") else None
    lines.append(" · ".join(part for part in [governor, meters] if part))
    return [line for line in lines if line]
