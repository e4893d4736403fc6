"""What differs between two bundles: recipe, code, inputs, stages, files, numbers.

Every part is a value that JSON can hold, so that a person and a program are told the same.
`edgecompress.comparison.flips` asks both bundles and says which answers change.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from edgecompress.all_metrics import is_failure
from edgecompress.bundle.manifest import Manifest
from edgecompress.comparison.changes import Change, Kind, changes
from edgecompress.comparison.side import Side
from edgecompress.report import words
from edgecompress.values import Json, Measurement, Step


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage that was added or removed, or whose parameters or decisions differ.

    `changes` are empty where only the store's key differs: the stage did and decided the same, from
    another input, or with other code or libraries.
    """

    stage: str
    kind: Kind
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of the core that differs; sizes in bytes, None where there was or is none."""

    name: str
    kind: Kind
    old_bytes: int | None = None
    new_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """One metric of both bundles' models, with its intervals.

    Attributes
    ----------
    metric, unit, target, split, slice
        As in a `Measurement`.
    old, new : Measurement or None
        None where it was not measured.
    overlap : bool or None
        Whether the two intervals overlap; None where one has none, or is not valid.
    """

    metric: str
    unit: str
    target: str | None
    split: str | None
    slice: str | None
    old: Measurement | None
    new: Measurement | None

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals overlap."""
        pair = (self.old, self.new)
        spans = [one.interval for one in pair if one and one.interval and not one.invalid]
        if len(spans) < 2:
            return None
        (low, high), (other_low, other_high) = spans
        return low <= other_high and other_low <= high

    @property
    def difference(self) -> float | None:
        """New minus old; None where either is missing or not finite."""
        if self.old is None or self.new is None:
            return None
        found = self.new.value - self.old.value
        return found if math.isfinite(found) else None


@dataclass(frozen=True, slots=True)
class Differences:
    """All that differs between two bundles, old and new.

    `same_core` is the verdict: not a byte of what deploys differs. `remarks` say what keeps numbers
    from being compared.
    """

    old: Side
    new: Side
    same_core: bool
    about: tuple[Change, ...] = ()
    recipe: tuple[Change, ...] = ()
    versions: tuple[Change, ...] = ()
    inputs: tuple[Change, ...] = ()
    stages: tuple[StageChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    numbers: tuple[Number, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Give all of it as JSON; a value that is not finite becomes null."""
        return {
            "old": _head(self.old),
            "new": _head(self.new),
            "same_core": self.same_core,
            **{
                name: [asdict(one) for one in getattr(self, name)]
                for name in ("about", "recipe", "versions", "inputs", "stages", "files")
            },
            "numbers": [_number_json(one) for one in self.numbers],
            "remarks": list(self.remarks),
        }


def compare(old: Side, new: Side) -> Differences:
    """Say all that differs between two bundles."""
    a, b = old.manifest, new.manifest
    about = changes(_about(a), _about(b))
    versions = [
        *changes(
            {"code": a.code, "platform": a.platform}, {"code": b.code, "platform": b.platform}
        ),
        *changes(a.versions, b.versions),
    ]
    return Differences(
        old=old,
        new=new,
        same_core=old.files == new.files,
        about=about,
        recipe=changes(a.recipe, b.recipe),
        versions=tuple(versions),
        inputs=changes(
            {"inputs": a.inputs, "licences": a.licences},
            {"inputs": b.inputs, "licences": b.licences},
        ),
        stages=tuple(_stages(a.steps, b.steps)),
        files=tuple(_files(old.files, new.files)),
        numbers=tuple(_numbers(old.measurements, new.measurements)),
        remarks=tuple(_remarks(old, new)),
    )


def _about(manifest: Manifest) -> Json:
    """Give what the model is to whoever uses it."""
    session = manifest.session
    return {
        "name": manifest.name,
        "task": manifest.task,
        # By their ids: a label that moved is answered where another one was.
        "labels": {label: index for index, label in enumerate(manifest.labels)},
        "session": {
            "graph_optimization_level": session.graph_optimization_level,
            "disabled_optimizers": list(session.disabled_optimizers),
            "config_entries": dict(session.config_entries),
        },
    }


def _stages(old: Sequence[Step], new: Sequence[Step]) -> Iterator[StageChange]:
    before_names, after_names = ([step.stage for step in each] for each in (old, new))
    matcher = difflib.SequenceMatcher(None, before_names, after_names, autojunk=False)
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        if what != "equal":
            for step in old[i:i_end]:
                yield StageChange(step.stage, "removed", changes({}, _step_json(step)))
            for step in new[j:j_end]:
                yield StageChange(step.stage, "added", changes({}, _step_json(step)))
            continue
        for before, after in zip(old[i:i_end], new[j:j_end], strict=True):
            found = changes(_step_json(before), _step_json(after))
            if found or before.key != after.key:
                yield StageChange(after.stage, "changed", found)


def _step_json(step: Step) -> Json:
    return {"parameters": step.parameters, "decisions": step.decisions}


def _files(
    old: Mapping[str, tuple[int, str]], new: Mapping[str, tuple[int, str]]
) -> Iterator[FileChange]:
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield FileChange(name, "removed", old_bytes=old[name][0])
        elif name not in old:
            yield FileChange(name, "added", new_bytes=new[name][0])
        elif old[name] != new[name]:
            yield FileChange(name, "changed", old[name][0], new[name][0])


def _numbers(old: Sequence[Measurement], new: Sequence[Measurement]) -> Iterator[Number]:
    def keyed(measured: Sequence[Measurement]) -> dict[tuple[str | None, ...], Measurement]:
        return {
            (one.metric, one.target, one.split, one.slice): one
            for one in measured
            if not is_failure(one)
        }

    if not old or not new:  # a remark says so
        return
    before, after = keyed(old), keyed(new)
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        one = b or a
        if one is not None:
            yield Number(one.metric, one.unit, one.target, one.split, one.slice, a, b)


def _remarks(old: Side, new: Side) -> Iterator[str]:
    """Say what keeps numbers from being compared."""
    for side, name in ((old, "the old"), (new, "the new")):
        if not side.measurements:
            yield f"{name} bundle has no measurements beside it, so that no numbers are compared"
    if not old.measurements or not new.measurements:
        return
    for split in ("validation", "test"):
        a, b = (_data_digest(side.manifest, split) for side in (old, new))
        if None not in (a, b) and a != b:
            yield (f"the {split} data differ, so that scores on {split} are of different questions")
    a, b = (_machines(side) for side in (old, new))
    for target in a.keys() & b.keys():
        if a[target] != b[target]:
            yield (
                f"{target} was {a[target]} and is {b[target]}, so that times there are of "
                "different machines"
            )
    timed = [one for one in (*old.measurements, *new.measurements) if one.unit == "ms"]
    if timed:
        yield (
            "times come from two runs: another process, another minute; `edgecompress profile` "
            "with both models interleaves them"
        )


def _data_digest(manifest: Manifest, split: str) -> object:
    data = manifest.inputs.get("data")
    one = data.get(split) if isinstance(data, Mapping) else None
    if isinstance(one, Mapping):
        return one.get("digest")
    digests = manifest.inputs.get("digests")  # as results hold them
    return digests.get(split) if isinstance(digests, Mapping) else None


def _machines(side: Side) -> dict[str, str]:
    targets = side.environment.get("targets")
    found = dict(targets) if isinstance(targets, Mapping) else {}
    return {
        str(name): str(one.get("board") or one.get("cpu"))
        for name, one in {"local": side.environment, **found}.items()
        if isinstance(one, Mapping) and (one.get("board") or one.get("cpu"))
    }


def shown_first(number: Number) -> tuple[tuple[int, str], str]:
    """Order numbers for people: scores, their losses, size, times, memory, then the rest."""
    return words.place(number.metric), f"{number.split} {number.target} {number.slice or ''}"


def _head(side: Side) -> Json:
    manifest = side.manifest
    return {
        "place": side.place,
        "name": manifest.name,
        "task": manifest.task,
        "bytes": side.size,
        "core_sha256": side.digest,
    }


def _number_json(number: Number) -> Json:
    def one(found: Measurement | None) -> Json | None:
        if found is None:
            return None
        value = found.value if math.isfinite(found.value) else None
        return {"value": value, "interval": found.interval, "invalid": found.invalid}

    return {
        "metric": number.metric,
        "unit": number.unit,
        "target": number.target,
        "split": number.split,
        "slice": number.slice,
        "old": one(number.old),
        "new": one(number.new),
        "difference": number.difference,
        "overlap": number.overlap,
    }
