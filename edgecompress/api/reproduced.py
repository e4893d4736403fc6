"""What making a bundle again gives, laid out as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecompress.api.difference_sections import sections
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.reproduce import Reproduction
from edgecompress.values import Json

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
