"""Rows that teach something together: what people say of a pair is said of neither text alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from edgecompress.processors.base import Array
from edgecompress.training.rows import TorchRows


@dataclass(frozen=True, eq=False)
class JointRows(TorchRows):
    """Examples as they are trained on: a number names an example, whose rows stay together.

    Attributes
    ----------
    groups : tuple of ndarray
        The numbers of each example's rows, int64 (its rows,).
    right : tuple of mapping of str to ndarray
        What each example's rows should teach (`Task.joint_target`).
    """

    groups: tuple[Array, ...] = ()
    right: tuple[Mapping[str, Array], ...] = ()

    @classmethod
    def of(cls, rows: TorchRows) -> JointRows:
        """Give the examples of which something is known; perhaps none."""
        found = {
            number: target
            for number, example in enumerate(rows.examples)
            if (target := rows.task.joint_target(example))
        }
        groups = tuple(np.flatnonzero(rows.example == number) for number in found)
        return cls(rows.rows, rows.examples, rows.task, rows.processor, rows.classes,
                   rows.input_names, groups, tuple(found.values()))  # fmt: skip

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.groups)

    @cached_property
    def lengths(self) -> Array:
        """The cost of each example's dearest row, int64 (examples,)."""
        costs = [max(self.rows[row].cost for row in group.tolist()) for group in self.groups]
        return np.array(costs, dtype=np.int64)

    @cached_property
    def padded(self) -> Array:
        """One length for all, by which batches are drawn at random.

        Examples of a batch are compared with each other, and those of like length are mostly of one
        kind: among themselves they would tell nothing of how kinds compare.
        """
        return np.full(len(self), round(float(self.lengths.mean())), dtype=np.int64)

    @cached_property
    def _padded(self) -> Array:
        return self.rounded()

    def length(self, rows: Sequence[int] | np.ndarray) -> int:
        """Give the length of a batch of some examples, padding included."""
        known = self._padded if len(rows) > 1 else self.lengths
        return int(known[np.asarray(rows)].max())

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give the inputs of all rows of some examples, one example behind the other."""
        chosen = [self.rows[row] for number in np.asarray(rows) for row in self.groups[number]]
        found = self.fed(chosen, self.length(rows))
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def taught(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give what some examples should teach, (examples, …)."""
        chosen = [self.right[number] for number in np.asarray(rows)]
        return {
            name: torch.from_numpy(np.stack([one[name] for one in chosen])) for name in chosen[0]
        }
