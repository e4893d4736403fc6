"""Files of float16 read in runs of rows, in an order that no system foresees.

Left alone, a system reads either a page at a time or far more than is asked for: with 8 MB ahead,
as some disks are set, a batch of 32 runs waited 30 ms for each file, and 1.6 ms as here.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from edgecompress.training.align import Ids

NEAR = 64
"""Rows apart that are still asked for as one run."""


class MappedHalves:
    """A file of float16 (rows, width), mapped into memory.

    Parameters
    ----------
    file : Path
        Holds nothing else; it is not empty.
    rows : int

    Attributes
    ----------
    values : numpy.ndarray
        float16 (rows, width), read-only.
    """

    def __init__(self, file: Path, rows: int) -> None:
        with file.open("rb") as stream:
            self._pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            self._pages.madvise(mmap.MADV_RANDOM)
        self.values = np.frombuffer(self._pages, np.float16).reshape(rows, -1)

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.values)

    def __getitem__(self, index: Ids) -> np.ndarray:
        """Read rows by their numbers, int64 (chosen,): (chosen, width)."""
        if hasattr(mmap, "MADV_WILLNEED") and len(index):
            self._ask_for(np.asarray(index))
        found: np.ndarray = self.values[index]
        return found

    def _ask_for(self, index: Ids) -> None:
        """Let the system read all runs at once while the first is waited for."""
        steps = np.diff(index)
        cuts = np.flatnonzero((steps > NEAR) | (steps < 0)) + 1
        firsts = index[np.concatenate([[0], cuts])]
        lasts = index[np.concatenate([cuts - 1, [len(index) - 1]])]
        size = self.values.shape[1] * self.values.itemsize
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            start = first * size // mmap.PAGESIZE * mmap.PAGESIZE
            self._pages.madvise(mmap.MADV_WILLNEED, start, (last + 1) * size - start)
