"""What came of making a bundle's core again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgecompress.comparison.differences import Differences
from edgecompress.values import Json

if TYPE_CHECKING:
    from edgecompress.quantization.graphs.differences import ModelDifferences


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """What both bundles answered to one split.

    `old` and `new` are fractions of `metric`; `flipped` of `asked` answers differ.
    """

    split: str
    metric: str
    old: float
    new: float
    asked: int
    flipped: int


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of making a core again.

    Attributes
    ----------
    equal : bool
        Whether every byte of the core is the same.
    notes : tuple of str
        What here is other than it was then: code, libraries, machine, settings.
    differences : Differences
        Between the two cores: files, recipe, versions, inputs, stages.
    unchanged : tuple of str
        Files of the core that are the same, to the byte.
    model : ModelDifferences or None
        Graph and weights, where the model's file differs.
    scores : tuple of ScoreChange
        On validation and test, where what answers differs and there is data.
    """

    equal: bool
    notes: tuple[str, ...]
    differences: Differences
    unchanged: tuple[str, ...]
    model: ModelDifferences | None = None
    scores: tuple[ScoreChange, ...] = ()

    def to_json(self) -> Json:
        """Give all of it as JSON."""
        return {
            "equal": self.equal,
            "notes": list(self.notes),
            "unchanged": list(self.unchanged),
            "differences": self.differences.to_json(),
            "model": asdict(self.model) if self.model else None,
            "scores": [
                {**asdict(score), "difference": score.new - score.old} for score in self.scores
            ],
        }
