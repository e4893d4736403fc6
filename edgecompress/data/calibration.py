"""Calibration sets: which examples set the activation ranges of a quantized model.

A definition is a small YAML file that says how to choose, from the user's own training data, not
the data itself. Those of ``calibration/`` are found by name, others by path.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecompress.errors import DataError, RecipeError
from edgecompress.reading import at_home
from edgecompress.resources import resource_folder
from edgecompress.texts import labels_in, text_of, words_of
from edgecompress.values import Example, Json, json_digest
from edgecompress.words import meant, shortened
from edgecompress.yamlfile import read_yaml

Array = np.ndarray[Any, Any]

SUFFIXES = (".yaml", ".yml")
WIDTH = 512
"""Of the embeddings that `kcentre` compares: a sentence has a few dozen words."""


FEW = 32
"""Examples below which activation ranges are remarked on. Of n texts alike, the next one goes
beyond the largest or the smallest value seen with a chance of 2 / (n + 1) (order statistics): 6 %
for 32, and 67 % for two, whose int8 model clips what most texts hold."""


def few_examples(decisions: Json) -> str | None:
    """Remark on a step whose activation ranges rest on fewer than `FEW` examples; else None.

    Parameters
    ----------
    decisions : dict
        Of the step.
    """
    count = decisions.get("calibrated_on")
    if not isinstance(count, int) or not 0 < count < FEW:
        return None
    many = "one example" if count == 1 else f"only {count} examples"
    return (
        f"calibrated on {many}: about {200 / (count + 1):.0f} % of new texts go beyond each range "
        f"that was found; give {FEW} or more"
    )


class CalibrationSet(BaseModel):
    """How to choose calibration examples."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """What recipes call it."""
    description: str = ""
    """What data it is for, and why it is chosen so."""
    split: Literal["train"] = "train"
    """Where examples come from: validation chooses and test judges, so only train."""
    choose: Literal["random", "length", "labels", "kcentre"] = "random"
    """``random``: all alike; ``length``: spread evenly over the lengths; ``labels``: each label
    in turn, so that rare ones are there; ``kcentre``: each example the one least like those that
    were taken, by the words in it."""
    samples: int = Field(default=128, ge=1)
    """How many examples."""
    seed: int = 0
    """Makes the choice repeatable, together with the seed that `select` is given."""
    source: str = ""
    """Where the data can be had."""
    licence: str = ""
    """The data's licence, for the bundle's record."""

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the choice; name and remarks do not."""
        return json_digest(self.model_dump(include={"split", "choose", "samples", "seed"}))

    def select(
        self, examples: Sequence[Example], seed: int = 0, samples: int | None = None
    ) -> tuple[Example, ...]:
        """Choose examples, in an order that is mixed; all of them where there are too few.

        Parameters
        ----------
        examples : sequence of Example
            Of the split `train`.
        seed : int
            The run's seed.
        samples : int, optional
            In place of the definition's.

        Raises
        ------
        DataError
            When there is no example.
        """
        if not examples:
            raise DataError(f"calibration set {self.name!r}: the {self.split} split is empty")
        count = min(samples or self.samples, len(examples))
        generator = np.random.default_rng((self.seed, seed))
        order = generator.permutation(len(examples)).tolist()
        if self.choose == "length":
            chosen = _by_length(examples, order, count)
        elif self.choose == "labels":
            chosen = _by_label(examples, order, count)
        elif self.choose == "kcentre":
            chosen = k_centre(word_embeddings(examples), count, order[0])
        else:
            chosen = order[:count]
        return tuple(examples[index] for index in chosen)


def _by_length(examples: Sequence[Example], order: list[int], count: int) -> list[int]:
    """One example at each of `count` evenly spaced places of the lengths' range of ranks.

    Within a place the mixed order decides, since the sort is stable.
    """
    ranked = sorted(order, key=lambda index: _length(examples[index]))
    places = np.linspace(0, len(ranked) - 1, count).round().astype(int).tolist()
    chosen = {ranked[place] for place in places}
    return [index for index in order if index in chosen]


def _length(example: Example) -> int:
    return len(words_of(example)) or len(text_of(example))


def _by_label(examples: Sequence[Example], order: list[int], count: int) -> list[int]:
    """Go round the labels, rarest first, and take the next example that bears each."""
    queues: dict[str, list[int]] = {}
    for index in order:
        example = examples[index]
        for label in labels_in(example) - {"O"} or {""}:
            queues.setdefault(label, []).append(index)
    turns = [
        iter(queue) for _, queue in sorted(queues.items(), key=lambda item: (len(item[1]), item[0]))
    ]
    chosen: dict[int, None] = {}
    while turns and len(chosen) < count:
        left = []
        for turn in turns:
            found = next((index for index in turn if index not in chosen), None)
            if found is not None:
                left.append(turn)
                if len(chosen) < count:
                    chosen[found] = None
        turns = left
    return list(chosen)


def word_embeddings(examples: Sequence[Example]) -> Array:
    """Embed examples by their words, hashed into `WIDTH` places with signs, of length 1.

    Cheap, and the same on every machine. Source of the trick: Weinberger et al., 2009, "Feature
    hashing for large scale multitask learning".

    Returns
    -------
    ndarray, float32, shape (examples, WIDTH)
    """
    found = np.zeros((len(examples), WIDTH), np.float32)
    for row, example in enumerate(examples):
        for word in words_of(example) or text_of(example).split():
            code = zlib.crc32(word.lower().encode("utf-8", "surrogatepass"))
            found[row, code % WIDTH] += 1 if code >> 31 else -1
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.maximum(lengths, np.float32(1e-6))


def k_centre(embeddings: Array, count: int, first: int = 0) -> list[int]:
    """Choose `count` rows so that every row is near to a chosen one: the farthest is next.

    Greedy, and at most twice as far as the best choice. Source: Sener & Savarese, 2018, "Active
    learning for convolutional neural networks: a core-set approach", algorithm 1.

    Parameters
    ----------
    embeddings : ndarray, float32, shape (rows, width)
    count : int
        At most the number of rows.
    first : int
        The row to begin with; of equally far rows the first is taken.
    """
    squares = np.einsum("ij,ij->i", embeddings, embeddings)
    nearest = np.full(len(embeddings), np.inf, np.float32)
    chosen = [first]
    while len(chosen) < count:
        last = chosen[-1]
        distance = squares + squares[last] - 2 * (embeddings @ embeddings[last])
        nearest = np.minimum(nearest, distance)
        nearest[last] = -np.inf  # never again, even where two examples are alike
        chosen.append(int(np.argmax(nearest)))
    return chosen


def calibration_names() -> tuple[str, ...]:
    """Names of the definitions that come with edgecompress, sorted."""
    folder = resource_folder("calibration")
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def load_calibration(name_or_path: str | Path) -> CalibrationSet:
    """Read a definition: by name from ``calibration/``, or by the path of a YAML file.

    Raises
    ------
    DataError
        When there is none (with the nearest name), or it is malformed (with file, line and key).
    """
    given = str(name_or_path)
    file = at_home(given)
    if file.suffix not in SUFFIXES and "/" not in given:
        file = resource_folder("calibration") / f"{given}.yaml"
        if not file.is_file():
            raise DataError(
                f"no calibration set is called {given!r}{meant(given, calibration_names())} "
                "(or give the path of a .yaml file)"
            )
    try:
        document = read_yaml(file).document
    except RecipeError as error:
        raise DataError(
            ": ".join(part for part in (error.key, error.message) if part),
            file=error.file,
            line=error.line,
        ) from None
    if not isinstance(document, dict):
        raise DataError("a calibration set is a mapping of keys, such as `name: mine`", file=file)
    try:
        return CalibrationSet.model_validate(document)
    except ValidationError as error:
        raise DataError(_explain(error), file=file) from None


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = shortened(".".join(map(str, problem["loc"])), 80)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{meant(key, CalibrationSet.model_fields)}"
    return f"{key}: {problem['msg']}"
