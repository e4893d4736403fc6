"""What tasks have in common whose models write their answers, token after token.

An encoder reads what is given, and a decoder writes. Both become one graph
(`edgecompress.models.joining`), which answers with one array of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import StageError
from edgecompress.modules.decoding import decoding_of, write_decoding
from edgecompress.tables import Need
from edgecompress.tasks.base import Floats, Task
from edgecompress.tasks.rows import Row
from edgecompress.tasks.taught import Output
from edgecompress.texts import Wording
from edgecompress.values import Example


class Written(Task):
    """A task whose answers are texts of the model's own."""

    outputs: ClassVar[tuple[Output, ...]] = (Output("tokens", "vector", candidates=True),)
    labelled: ClassVar[bool] = False
    answers: ClassVar[Need] = "welcome"
    unchanged: ClassVar[str] = "encoders with a decoder cannot be cut, trained or distilled yet"
    in_parts: ClassVar[bool] = True
    proposed: ClassVar[tuple[Any, ...]] = (
        ["export", "quantize.dynamic", "join"],
        [
            "export",
            {"quantize.dynamic": {"part": "encoder"}},
            {"quantize.weights": {"part": "decoder", "embedding_bits": 8}},
            "join",
        ],
        [
            "export",
            {"quantize.dynamic": {"part": "encoder"}},
            {"quantize.weights": {"part": "decoder"}},
            "join",
        ],
    )

    def complete(self, config: Any, source: Path) -> None:
        """Note in the configuration how the model is asked."""
        config.decoding = decoding_of(source).to_json()

    def take_files(self, source: Path, folder: Path) -> None:
        """Take how the model is asked."""
        write_decoding(decoding_of(source), folder)

    def finished(
        self,
        inputs: Mapping[str, Any],
        target: Any,
        told: bool,  # noqa: ARG002
    ) -> tuple[Mapping[str, Any], Any]:
        """Take a right answer for what it is: words, and no class."""
        return inputs, target if target is None else Wording(target)

    def stepwise(self, row: Row) -> bool:  # noqa: ARG002
        """Say that an answer is as long as its text, whatever its row is."""
        return False

    def written(self, values: Floats, end: int, forced: int) -> tuple[list[int], list[float]]:
        """Give the tokens of a row and the log probabilities of these and of its end.

        Raises
        ------
        StageError
            When the model gives something else.
        """
        if values.ndim != 2 or values.shape[-1] != 2 or np.isnan(values).any():
            raise StageError(
                f"the model gives {list(values.shape)} for a row, and {self.name} reads a token "
                "and its probability a step; put `join` behind the export"
            )
        kept = values[forced:]
        ends = np.flatnonzero(kept[:, 0] == end)
        said = kept[: ends[0] if len(ends) else None, 0]
        return said.astype(int).tolist(), kept[: ends[0] + 1 if len(ends) else None, 1].tolist()


def nobody() -> Mapping[str, Any]:
    """Give what a row teaches: nothing yet."""
    return {"labels": np.full(1, np.nan, np.float32)}


def certainty(logs: Sequence[float]) -> NDArray[np.float64]:
    """Give the geometric mean of probabilities, float64 (1,)."""
    found: NDArray[np.float64] = np.exp(np.array([sum(logs) / max(1, len(logs))]))
    return found


def is_told(examples: Sequence[Example]) -> bool:
    """Whether there are examples, and any has a right answer that says something."""
    return not examples or any(str(one.target or "").strip() for one in examples)
