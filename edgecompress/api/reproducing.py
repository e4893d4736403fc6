"""Making a bundle again from nothing, and comparing it with the first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.arguments import StrPath, reporting
from edgecompress.api.difference_sections import sections
from edgecompress.api.options import as_texts
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.reproduce import reproduce as reproduce_bundle
from edgecompress.engine.reproduction import Reproduction
from edgecompress.engine.same_inputs import Inputs
from edgecompress.progress import Reporter
from edgecompress.values import Json
from edgecompress.yamlfile import Settings

if TYPE_CHECKING:
    from edgecompress.quantization.graphs.differences import ModelDifferences


MOST_TENSORS = 12
"""Weights that are listed; `Reproduced.to_json` has them all."""


@dataclass(frozen=True, slots=True, repr=False)
class Reproduced(Shown):
    """What came of making a bundle's core again; `found` has all of it."""

    found: Reproduction

    @property
    def equal(self) -> bool:
        """Whether every byte of the core is the same."""
        return self.found.equal

    @property
    def exit_code(self) -> int:
        """0 when not a byte of the core differs, else 1."""
        return 0 if self.found.equal else 1

    def to_json(self) -> Json:
        """Give all of it as JSON."""
        return self.found.to_json()

    def sections(self) -> Iterator[Section]:
        """Say whether the cores are the same; where they are not, lay out what differs."""
        found, same = self.found, len(self.found.unchanged)
        notes = [f"note: {note}" for note in found.notes]
        if found.equal:
            said = f"the same bytes: all {same} files of the core"
        else:
            total = same + len(found.differences.files)
            said = f"different: {same} of {total} files of the core are the same"
        yield Section("", notes=(*notes, said))
        if not found.equal:
            yield from sections(found.differences)
            if found.model is not None:
                yield from _model(found.model)
            if found.scores:
                yield _accuracy(found)


def _accuracy(found: Reproduction) -> Section:
    lines = tuple(
        (
            score.split,
            score.metric,
            f"{score.old:.4f}",
            f"{score.new:.4f}",
            f"{score.new - score.old:+.4f}",
            f"{score.flipped} of {score.asked}",
        )
        for score in found.scores
    )
    heads = ("split", "metric", "recorded", "made again", "difference", "answers that differ")
    return Section("Accuracy", heads, lines, right=2)


def _model(found: ModelDifferences) -> Iterator[Section]:
    shown = found.tensors[:MOST_TENSORS]
    lines = tuple(
        (
            one.name,
            one.old or "none",
            "" if one.differing is None else f"{one.differing:.1%}",
            "" if one.largest is None else f"{one.largest:.3g}",
            "" if one.scale is None else f"{one.scale:.3g}",
        )
        if one.old == one.new
        else (one.name, one.old or "none", f"now {one.new or 'none'}", "", "")
        for one in shown
    )
    notes = [] if found.same_graph else ["The graphs differ in operators or wiring."]
    notes += [f"{name}: {old} → {new}" for name, (old, new) in found.operators.items()]
    if len(found.tensors) > len(shown):
        notes.append(f"… and {len(found.tensors) - len(shown)} more; --json has them all")
    title = f"Weights: {len(found.tensors)} differ, {found.compared} are in both"
    heads = ("weight", "type", "values that differ", "largest difference", "largest value")
    yield Section(title, heads if lines else (), lines, tuple(notes), right=2)


def reproduce(
    bundle: StrPath,
    *,
    data_root: StrPath | None = None,
    teacher: StrPath | None = None,
    model: StrPath | None = None,
    settings: Settings = (),
    store: StrPath | None = None,
    output: StrPath | None = None,
    threads: int | None = None,
    yes: bool | Callable[[Sequence[str]], bool] = False,
    progress: bool | Reporter = True,
) -> Reproduced:
    """Make `bundle` again by its own recipe in a clean store, and compare the two.

    What stages decided by measuring is decided as it was; nothing is timed. Data, teacher and
    calibration sets must be those that the bundle was made from: their digests are compared first.
    A model that the bundle names by the id of a hub is fetched only when you agree to it.
    The cores are compared byte by byte; where they differ, also by sizes, weights, and the accuracy
    on validation and test.

    Exit code 0: not a byte of the core differs; 1: something does.

    Parameters
    ----------
    bundle : path
        The bundle's directory.
    data_root : path, optional
        Folder of the data's files; the working directory when left out.
    teacher : path or str, optional
        Where the teacher lies now: a directory, or a hub id.
    model : path or str, optional
        Where the model that the chains start from lies now, if any did.
    settings : mapping of str to object, optional
        Set any field of the recorded recipe, such as stages.quantize.static.calibration.
    store : path, optional
        A new folder that keeps what is made, so that the same command goes on after an
        interruption; a temporary one when left out.
    output : path, optional
        Keep the bundle that is made, in this directory.
    threads : int, optional
        How many threads PyTorch trains with; as many as then, where that is recorded.
    yes : bool or callable
        Fetch the hub's models that the bundle names; a callable is asked, and given their names.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Raises
    ------
    EdgeCompressError
        When the bundle is damaged, or its inputs are not those that it was made from.
    """
    inputs = Inputs(
        Path(data_root) if data_root else None,
        os.fspath(teacher) if teacher else None,
        os.fspath(model) if model else None,
        tuple(as_texts(settings)),
    )
    with reporting(progress) as reporter:
        return Reproduced(
            reproduce_bundle(
                Path(bundle),
                inputs,
                store=Path(store) if store else None,
                output=Path(output) if output else None,
                threads=threads,
                reporter=reporter,
                fetch=yes if callable(yes) else lambda _names: bool(yes),
            )
        )
