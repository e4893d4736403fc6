"""Examples as rows of arrays: what a model is given, and what it takes to read its outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.processors.base import Array, Processor
from edgecompress.values import Example, Feed

if TYPE_CHECKING:
    from edgecompress.tasks.base import Task

Ids = NDArray[np.int64]

IGNORED = -100  # the label that torch's cross_entropy leaves out (its ignore_index)


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One input of a model, without a batch axis; a long example gives several (windows).

    Attributes
    ----------
    feed : mapping of str to ndarray
        ``input_ids`` int64 (length,), ``pixel_values`` float32 (3, height, width) …
    example : int
        Whose row it is, by the example's place in `Rows.examples`.
    cost : int
        What it costs to run: tokens, frames, pixels. Rows of like cost make a batch.
    place : mapping of str to ndarray
        What decoding needs to know: positions of words, offsets, an image's own size.
    target : mapping of str to ndarray
        What it should teach: ``labels``, int64 () or (length,), `IGNORED` where nobody said it.
    """

    feed: Feed
    example: int
    cost: int
    place: Mapping[str, Array] = field(default_factory=dict)
    target: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples of a task as rows, with what it takes to feed them and to read what is answered.

    Attributes
    ----------
    rows : tuple of Row
        In the order of their examples. An example may have none (a text without a single piece);
        its answer does not need one.
    examples : sequence of Example
    task : Task
    processor : Processor
    classes : tuple of str
        Names of the classes by id.
    """

    rows: tuple[Row, ...]
    examples: Sequence[Example]
    task: Task
    processor: Any
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """Give one row after the other."""
        return iter(self.rows)

    @cached_property
    def lengths(self) -> Ids:
        """The cost of each row, int64 (rows,)."""
        return np.array([row.cost for row in self.rows], dtype=np.int64)

    @cached_property
    def example(self) -> Ids:
        """The place of each row's example, int64 (rows,), rising."""
        return np.array([row.example for row in self.rows], dtype=np.int64)

    @property
    def stepwise(self) -> bool:
        """Whether a row has an answer for each of its steps, and not one for all."""
        return any(row.target["labels"].ndim > 0 for row in self.rows[:1])

    def inputs_of(self, known: Collection[str]) -> tuple[str, ...]:
        """Name the inputs that these rows give, of those that a model knows."""
        first = (name for row in self.rows[:1] for name in row.feed)
        given = self.processor.input_names or tuple(first)
        return tuple(name for name in given if name in known)

    def batch(self, numbers: Sequence[int], names: Sequence[str]) -> dict[str, Array]:
        """Give the inputs of some rows, padded to the longest, shape (batch, …).

        Raises
        ------
        DataError
            When the model wants an input that these rows do not give.
        """
        processor: Processor = self.processor
        return processor.batch([self.rows[number].feed for number in numbers], names)

    def labels(self, numbers: Sequence[int], length: int) -> Ids:
        """Give what some rows should teach, padded with `IGNORED`.

        Returns
        -------
        int64 (batch, length) where each step has a label, (batch,) where the row has one
        """
        chosen = [self.rows[number].target["labels"] for number in numbers]
        if all(label.ndim == 0 for label in chosen):
            return np.array(chosen, dtype=np.int64)
        value = np.full((len(chosen), length), IGNORED, dtype=np.int64)
        for row, label in enumerate(chosen):
            value[row, : len(label)] = label
        return value

    def labelled(self) -> Ids:
        """Give the numbers of the rows that have a label, int64 (labelled,)."""
        has = [bool(np.any(row.target["labels"] != IGNORED)) for row in self.rows]
        return np.flatnonzero(has)

    def digest(self) -> str:
        """SHA-256 over all that a model is given: equal digests mean equal outputs."""
        found = hashlib.sha256()
        for row in self.rows:
            for name, array in sorted(row.feed.items()):
                found.update(f"{name} {array.dtype} {array.shape} ".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def subset(self, numbers: Ids) -> Any:
        """Give the rows with these numbers; the examples stay as they are."""
        return replace(self, rows=tuple(self.rows[number] for number in numbers.tolist()))


def input_ids(rows: Rows) -> list[Ids]:
    """Give the pieces of each row of text, int64 (length,)."""
    return [row.feed["input_ids"] for row in rows.rows]
