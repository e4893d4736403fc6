"""What a task is: how examples become rows of ids, and how logits become answers and scores.

One task per file; its file's name, with dashes, is its name: ``token_classification.py`` is
``token-classification``. Everything here needs numpy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError, StageError
from edgecompress.tasks.preprocessor import Preprocessor
from edgecompress.values import Example

Ids = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Statistic = Callable[[Floats], Floats]

IGNORED = -100  # the label that torch's cross_entropy leaves out (its ignore_index)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Examples as unpadded rows of token ids; a long example gives several rows (windows).

    An example whose text gives no piece at all may have no row; its answer does not need one.

    Attributes
    ----------
    input_ids : tuple of int64 (length,)
        One per row, special tokens included.
    labels : tuple of int64 (length,) or ()
        One per row. Tags: `IGNORED` off the words' first pieces. Text: the class, or `IGNORED`
        where the example has none.
    word_positions : tuple of int64 (words,)
        Tags: where in the row the first piece of each of its words stands. Text: empty arrays.
    word_indices : tuple of int64 (words,)
        Tags: which word of the example each entry of `word_positions` is. Text: empty arrays.
    example : int64 (rows,)
        Index of each row's example, rising.
    num_answers : int64 (examples,)
        How many labels each example's answer has: its words, or 1.
    """

    input_ids: tuple[Ids, ...]
    labels: tuple[Ids, ...]
    word_positions: tuple[Ids, ...]
    word_indices: tuple[Ids, ...]
    example: Ids
    num_answers: Ids

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.input_ids)

    @property
    def lengths(self) -> Ids:
        """Tokens in each row, int64 (rows,)."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said of each example.

    Attributes
    ----------
    labels : tuple of tuple of str
        Per example: one label per word, or exactly one.
    confidence : tuple of float64 (labels,)
        Per example: the softmax probability of each of these labels; 1 for a word that the
        tokenizer gave no piece for, which is answered by rule.
    """

    labels: tuple[tuple[str, ...], ...]
    confidence: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Floor:
    """What answers without looking at the input: whoever learned anything gives better answers.

    Attributes
    ----------
    name : str
        What it does, in plain words that fit every data set: its row in results is called so.
    says : str
        What it answers on this data, for a sentence.
    answers : callable
        Gives its answers to examples.
    """

    name: str
    says: str
    answers: Callable[[Sequence[Example]], Answers]


@dataclass(frozen=True, slots=True)
class Score:
    """One accuracy figure: a fraction, over all examples or over a `slice` of them.

    `slice` is None, ``label:PER`` or ``file:hau``; `samples` counts the examples (or, for a
    label, the gold spans or examples) behind `value`.
    """

    metric: str
    value: float
    slice: str | None = None
    samples: int = 1


class Task(ABC):
    """A kind of question: how to encode it, what to learn from, how to read and score answers."""

    name: ClassVar[str]
    """As recipes write it."""
    auto_class: ClassVar[str]
    """Name of the transformers class that loads a model for it."""
    primary: ClassVar[str]
    """The metric that stands for the task."""
    labelled: ClassVar[bool] = True
    """Whether its classes are the labels of the data."""

    @abstractmethod
    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give the classes that `examples` hold, in a stable order.

        Raises
        ------
        DataError
            When the examples are not of this task.
        """

    @abstractmethod
    def encode(
        self, examples: Sequence[Example], preprocessor: Preprocessor, labels: Sequence[str]
    ) -> Encoded:
        """Turn examples into rows; unlabelled ones (no tags, no label) get `IGNORED` labels.

        Raises
        ------
        DataError
            When an example holds a label that is not among `labels`.
        """

    def compact(self, logits: Floats, encoded: Encoded, row: int) -> Floats:  # noqa: ARG002
        """Keep of a row's logits, padding removed, what `decode` reads of them: all, mostly."""
        return logits

    @abstractmethod
    def decode(self, logits: Sequence[Floats], encoded: Encoded, labels: Sequence[str]) -> Answers:
        """Read the answers from the logits.

        Parameters
        ----------
        logits : sequence of float (length, classes) or (classes,)
            One per row of `encoded`, padding removed.
        """

    @abstractmethod
    def score(
        self, answers: Answers, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[Score]:
        """Compare answers with the examples' labels: overall, per label and per data file."""

    @abstractmethod
    def statistics(
        self, answers: Answers, examples: Sequence[Example]
    ) -> tuple[NDArray[np.float64], Statistic]:
        """Give the counts that the primary metric is made of, for resampling.

        Returns
        -------
        counts : float64 (examples, k)
            Sufficient counts of each example.
        statistic : callable
            From summed counts (…, k) to the primary metric (…).
        """

    @abstractmethod
    def floor(self, known: Sequence[Example], preprocessor: Preprocessor | None) -> Floor | None:
        """Give what answers every example alike: the figure that a model must beat.

        Parameters
        ----------
        known : sequence of Example
            Whose classes (or pieces) are counted: the training split.
        preprocessor : Preprocessor or None
            Tokenizer of the model that is judged, for a task whose classes are its pieces.

        Returns
        -------
        Floor or None
            None where `known` holds nothing to count, or the preprocessor that is needed is None.
        """

    @abstractmethod
    def example(self, text: str) -> Example:
        """Make an unlabelled example of a text that a person typed."""

    def feed(
        self,
        encoded: Encoded,
        rows: Sequence[int],
        preprocessor: Preprocessor,
        input_names: Sequence[str],
    ) -> dict[str, Ids]:
        """Make a model's input of some rows, padded on the right to the longest.

        Parameters
        ----------
        input_names : sequence of str
            Those that the model takes, of ``input_ids``, ``attention_mask``, ``token_type_ids``
            and ``position_ids``.

        Returns
        -------
        dict of str to int64 (batch, length)

        Raises
        ------
        DataError
            When the model wants an input that this task cannot make.
        """
        chosen = [encoded.input_ids[row] for row in rows]
        length = max((len(ids) for ids in chosen), default=0)
        inside = np.arange(length) < np.array([[len(ids)] for ids in chosen])
        result: dict[str, Ids] = {}
        for name in input_names:
            if name == "input_ids":
                value = np.full((len(chosen), length), preprocessor.pad_id, dtype=np.int64)
                value[inside] = np.concatenate(chosen)
            elif name == "attention_mask":
                value = inside.astype(np.int64)
            elif name == "token_type_ids":
                value = np.zeros((len(chosen), length), dtype=np.int64)
                value[inside] = np.concatenate(
                    [preprocessor.segment_ids(len(ids)) for ids in chosen]
                )
            elif name == "position_ids":
                value = np.broadcast_to(np.arange(length), (len(chosen), length)).copy()
            else:
                raise DataError(f"the model wants an input {name!r} that {self.name} does not make")
            result[name] = value
        return result

    def targets(self, encoded: Encoded, rows: Sequence[int], length: int) -> Ids:
        """Give what some rows should teach, padded with `IGNORED`.

        Returns
        -------
        int64 (batch, length) for tags, (batch,) for one label per text
        """
        chosen = [encoded.labels[row] for row in rows]
        if all(label.ndim == 0 for label in chosen):
            return np.array(chosen, dtype=np.int64)
        value = np.full((len(chosen), length), IGNORED, dtype=np.int64)
        for row, label in enumerate(chosen):
            value[row, : len(label)] = label
        return value


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Softmax over the last axis in float64, safe from overflow: (…, classes) to the same."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    powers: NDArray[np.float64] = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def label_id(ids: dict[str, int], label: str, example: Example) -> int:
    """Look a label's class up.

    Raises
    ------
    DataError
        When it is not a class, saying where it stands and which ones there are.
    """
    found = ids.get(label)
    if found is None:
        where = f" (in {example.source})" if example.source else ""
        known = ", ".join(list(ids)[:20])
        raise DataError(f"label {label!r}{where} is none of the model's: {known}")
    return found


def check_logits(logits: Sequence[Floats], encoded: Encoded) -> None:
    """Check that there is one array of logits per row, all of them numbers.

    Raises
    ------
    ValueError
        When the rows do not match.
    StageError
        When a logit is NaN or infinite: no answer can be read from such a model.
    """
    if len(logits) != len(encoded):
        raise ValueError(f"{len(logits)} arrays of logits for {len(encoded)} rows")
    for row, values in enumerate(logits):
        if not np.isfinite(values).all():
            raise StageError(
                f"the model gives NaN or infinite logits (input row {row}); "
                "the step before broke it: try a gentler setting there"
            )


def join_rows(
    input_ids: list[Ids],
    labels: list[Ids],
    positions: list[Ids],
    indices: list[Ids],
    example: list[int],
    num_answers: list[int],
) -> Encoded:
    """Freeze what a task gathered row by row."""
    return Encoded(
        tuple(input_ids),
        tuple(labels),
        tuple(positions),
        tuple(indices),
        np.array(example, dtype=np.int64),
        np.array(num_answers, dtype=np.int64),
    )
