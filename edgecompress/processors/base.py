"""What a processor is: the part of a model that makes arrays of what a person gives it.

It runs on a device: numpy, tokenizers and Pillow only. Its files travel with the model, in the
folder ``preprocessor/`` of a candidate and of a bundle; equal digests make equal arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.values import Feed

Array = np.ndarray[Any, Any]


class Processor(ABC):
    """Makes rows of arrays, and batches of rows; a task says what goes in."""

    kind: ClassVar[str]
    """As tasks name it."""
    input_names: tuple[str, ...]
    """What a model of this kind may take; the graph says what it does take."""
    digest: str
    """SHA-256 over its files."""

    needs_files: ClassVar[bool] = True
    """Whether it is nothing without files of its own; else a model may lack the folder."""

    @classmethod
    @abstractmethod
    def load(cls, directory: Path | None) -> Processor:
        """Read it from its folder; None is given to what needs no files.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """

    def gives(self, name: str, dtype: type[np.generic]) -> bool:  # noqa: ARG002
        """Say whether rows of this kind have an input of this name and type, as far as is known."""
        return True

    @abstractmethod
    def batch(self, feeds: Sequence[Feed], names: Sequence[str]) -> dict[str, Array]:
        """Put rows together, each padded to the longest.

        Parameters
        ----------
        feeds : sequence of mapping of str to ndarray
            Of one row each, without a batch axis.
        names : sequence of str
            The inputs that the model takes.

        Returns
        -------
        dict of str to ndarray, shape (batch, …)

        Raises
        ------
        DataError
            When the model wants an input that rows of this kind do not give.
        """
