"""Vectors as they are asked for: shorter, or in a quarter of the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError

Floats = NDArray[np.floating[Any]]
OF_LENGTH_ONE = 1e-3
"""How far the length of a vector may be from 1, where it is meant to be 1."""


def cut(vector: Floats, dimensions: int) -> Floats:
    """Give the first numbers of a vector, float (dimensions,): of length 1 again where it has it.

    Raises
    ------
    DataError
        When it has fewer.
    """
    if dimensions > len(vector):
        raise DataError(f"its vectors have {len(vector)} numbers, not {dimensions}; ask for fewer")
    found = vector[:dimensions]
    length = float(np.linalg.norm(found))
    if length and abs(float(np.linalg.norm(vector)) - 1) <= OF_LENGTH_ONE:
        found = found / np.float32(length)
    return found


def as_int8(vector: Floats) -> NDArray[np.int8]:
    """Give a vector in a quarter of the bytes, int8 (width,): its largest number becomes 127."""
    largest = float(np.abs(vector).max(initial=0.0)) or 1.0
    found: NDArray[np.int8] = np.rint(vector * (127 / largest)).astype(np.int8)
    return found
