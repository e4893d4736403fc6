"""Which channel every index of a tensor's axes belongs to, and which channels are the same one.

A tensor has one array of labels for each axis. Two indices with one label stand or fall together;
the label 0 is that of everything which stays: pixels, rows of a batch, and whatever an operation
did that has no rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Axes = tuple[np.ndarray, ...]
"""int64 labels for each axis of a tensor, as many as the axis is long."""
FIXED = 0


class Labels:
    """Labels, and which of them are the same (a union-find structure)."""

    def __init__(self) -> None:
        self._parents = [FIXED]

    def fresh(self, count: int) -> np.ndarray:
        """Give so many labels that nothing has yet; a single channel can never go."""
        if count == 1:
            return fixed(1)
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, label: int) -> int:
        """Give the one label that stands for all that are the same."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """Give the labels that stand for these."""
        return np.array([self.root(one) for one in labels.tolist()], np.int64)

    def same(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Say that two axes of one length are one; gives the labels of both."""
        if first is not second and not np.array_equal(first, second):
            for one, other in zip(first.tolist(), second.tolist(), strict=True):
                low, high = sorted((self.root(one), self.root(other)))
                self._parents[high] = low  # what is joined with something fixed is fixed
        return first

    def fix(self, *axes: np.ndarray) -> None:
        """Say that these stay."""
        for labels in axes:
            for one in np.unique(labels).tolist():
                self._parents[self.root(one)] = FIXED

    def reshaped(self, axes: Axes, before: Sequence[int], after: Sequence[int]) -> Axes:
        """Give the axes of a tensor whose numbers are read in another shape."""
        found: list[np.ndarray] = []
        left, right = 0, 0
        while left < len(before) or right < len(after):
            first, second = left, right
            left, right = min(left + 1, len(before)), min(right + 1, len(after))
            while (a := math.prod(before[first:left])) != (b := math.prod(after[second:right])):
                if a < b:
                    left += 1
                else:
                    right += 1
            flat = self._merged(axes[first:left])
            found += self._divided(flat, after[second:right])
        return tuple(found)

    def _merged(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Give the labels of axes that become one."""
        size = math.prod(len(one) for one in axes)
        named = [place for place, one in enumerate(axes) if one.any()]
        if len(named) != 1:
            self.fix(*axes)
            return fixed(size)
        shape = [1] * len(axes)
        shape[named[0]] = -1
        whole = np.broadcast_to(axes[named[0]].reshape(shape), [len(one) for one in axes])
        return whole.reshape(size)

    def _divided(self, flat: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Give the labels of several axes that were one."""
        found = [fixed(size) for size in sizes]
        if not flat.any():
            return found
        grid = flat.reshape(sizes)
        for place in range(len(sizes)):
            first = grid[tuple(slice(None) if at == place else slice(1) for at in range(grid.ndim))]
            if np.array_equal(np.broadcast_to(first, grid.shape), grid):
                found[place] = first.reshape(-1)
                return found
        self.fix(flat)
        return found


def fixed(count: int) -> np.ndarray:
    """Give the labels of an axis on which nothing can go."""
    return np.full(count, FIXED, np.int64)
