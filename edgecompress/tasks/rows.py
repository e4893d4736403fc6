"""Examples as rows of arrays: what a model is given, and what it takes to read its outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.generation.states import beginning, begins
from edgecompress.processors.base import Array, Processor
from edgecompress.values import Example, TensorSpec

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
        What it should teach: ``labels``, int64 () or (length,), `IGNORED` where nobody said it;
        other numbers as floats, NaN where nobody did.
    """

    feed: Mapping[str, Array]
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
        return any(self.task.stepwise(row) for row in self.rows[:1])

    def inputs_of(self, known: Collection[str], processor: Any = None) -> tuple[str, ...]:
        """Name the inputs that these rows give, of those that a model knows.

        `processor` is another model's, where it is asked instead.
        """
        first: Mapping[str, Array] = next((row.feed for row in self.rows), {})
        given = (processor or self.processor).inputs(first)
        return tuple(name for name in given if name in known)

    def batch(self, numbers: Sequence[int], inputs: Sequence[str | TensorSpec]) -> dict[str, Array]:
        """Give the inputs of some rows, padded to the longest, shape (batch, …).

        Of a graph that goes on from what it has read, the specs are needed: it has read nothing.

        Raises
        ------
        DataError
            When the model wants an input that these rows do not give.
        """
        processor: Processor = self.processor
        made = [one for one in inputs if isinstance(one, TensorSpec) and begins(one)]
        names = [
            one.name if isinstance(one, TensorSpec) else one for one in inputs if one not in made
        ]
        found = processor.batch([self.rows[number].feed for number in numbers], names)
        return found | beginning(made, len(numbers))

    def targets(self, numbers: Sequence[int], length: int = 0) -> dict[str, Array]:
        """Give what some rows should teach, by name, padded to `length` at least (`stacked`).

        Returns
        -------
        dict of str to ndarray
            ``labels``: int64 (batch, length) where each step has a label, (batch,) where the row
            has one.
        """
        chosen = [self.rows[number].target for number in numbers]
        return {name: stacked([one[name] for one in chosen], length) for name in chosen[0]}

    def labelled(self) -> Ids:
        """Give the numbers of the rows that teach something, int64 (labelled,)."""
        has = [any(map(_said, row.target.values())) for row in self.rows]
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


def _said(target: Array) -> bool:
    whole = np.issubdtype(target.dtype, np.integer)
    return bool(np.any(target != IGNORED) if whole else not np.isnan(target).all())


def stacked(targets: Sequence[Array], length: int = 0) -> Array:
    """Put targets together, padded along their first axis with `IGNORED`, or NaN where floats.

    The axis is as long as the longest of them, and at least `length`.
    """
    if not targets[0].ndim:
        return np.stack(targets)
    fill = IGNORED if np.issubdtype(targets[0].dtype, np.integer) else np.nan
    shape = (len(targets), max(length, *map(len, targets)), *targets[0].shape[1:])
    value = np.full(shape, fill, dtype=targets[0].dtype)
    for row, target in enumerate(targets):
        value[row, : len(target)] = target
    return value


def input_ids(rows: Rows) -> list[Ids]:
    """Give the pieces of each row of text, int64 (length,)."""
    return [row.feed["input_ids"] for row in rows.rows]
