"""What models are fed when they are timed or asked: real examples, or inputs from a signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from edgecompress.errors import DataError
from edgecompress.targets.base import Feeds, feeds_from_rows
from edgecompress.targets.graph import signature
from edgecompress.tasks import Encoded, Preprocessor, task
from edgecompress.values import Candidate, Example, OnnxModel, TensorSpec, file_digest

DYNAMIC_SIZE = 32  # tokens: a short sentence, where nothing says how long inputs are
SYNTHETIC_INPUTS = 16


class InputSettings(BaseModel):
    """What an ONNX file is fed where no data says it; left empty, its signature decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    file: Path | None = None
    """An .npz file with an array for each input, or `0/input`, `1/input`, … for several items."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """Size of each axis that the graph leaves open, by its name there (`batch_size`) or as
    `input.axis` (`x.2`)."""
    bounds: dict[str, int | tuple[int, int]] = Field(default_factory=dict)
    """Values of an input: `30000` for 0 to 29999, `[1, 2]` for from 1 to below 2."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def digest(self) -> str | None:
        """SHA-256 of `file`: with another content, stored results are those of other inputs."""
        return file_digest(self.file) if self.file is not None else None

    @model_validator(mode="before")
    @classmethod
    def _without_digest(cls, fields: Any) -> Any:
        """Let what was dumped be read again: the digest is the file's own affair."""
        if isinstance(fields, dict):
            return {name: value for name, value in fields.items() if name != "digest"}
        return fields

    def check(self) -> None:
        """Check what the fields name on disk, before any work starts.

        Raises
        ------
        DataError
            When there is no such file.
        """
        if self.file is not None and not self.file.is_file():
            raise DataError("there is no such file of inputs", file=self.file)

    @property
    def given(self) -> bool:
        """Whether anything is set."""
        return bool(self.file or self.sizes or self.bounds)


def feeds_from_signature(
    specs: Sequence[TensorSpec], count: int = SYNTHETIC_INPUTS, seed: int = 0
) -> Feeds:
    """Make inputs for a graph of which nothing else is known.

    A dynamic first size is 1 (the batch), every other one `DYNAMIC_SIZE`. Whole numbers are 0
    or 1 (masks 1, segments 0), which are ids of any vocabulary; the rest is standard normal.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = {}
        for spec in specs:
            shape = tuple(
                size if isinstance(size, int) else (1 if axis == 0 else DYNAMIC_SIZE)
                for axis, size in enumerate(spec.shape)
            )
            dtype = np.dtype(spec.dtype)
            if "mask" in spec.name or dtype == np.bool_:
                row[spec.name] = np.ones(shape, dtype)
            elif "type" in spec.name and dtype.kind in "iu":
                row[spec.name] = np.zeros(shape, dtype)
            elif dtype.kind in "iu":
                row[spec.name] = generator.integers(0, 2, shape).astype(dtype)
            else:
                row[spec.name] = generator.standard_normal(shape).astype(dtype)
        rows.append(row)
    return feeds_from_rows(rows, range(count))


def question(example: Example) -> Example:
    """Take the labels off an example: a model is never shown them."""
    return replace(example, tags=(), label="")


def encoded_feeds(
    candidate: Candidate, examples: Sequence[Example]
) -> tuple[Feeds, Encoded, Preprocessor]:
    """Encode examples with the candidate's own preprocessor, one row at a time (batch 1).

    Raises
    ------
    DataError
        When the candidate has no task or no preprocessor, or wants inputs that its task does not
        make.
    """
    if candidate.task is None or candidate.preprocessor is None:
        raise DataError(
            "the model has no task or tokenizer, so that examples cannot be encoded for it; "
            "name `task` and give the tokenizer's files"
        )
    kind = task(candidate.task)
    preprocessor = Preprocessor.load(candidate.preprocessor)
    names: Sequence[str] = preprocessor.input_names
    if isinstance(candidate.model, OnnxModel):
        names = [spec.name for spec in signature(candidate.model)]
    encoded = kind.encode([question(example) for example in examples], preprocessor, ())
    rows = [kind.feed(encoded, [row], preprocessor, names) for row in range(len(encoded))]
    return feeds_from_rows(rows, encoded.example.tolist()), encoded, preprocessor


def spread(lengths: Sequence[int], count: int) -> list[int]:
    """Choose `count` of the inputs so that their lengths are spread like all of them.

    Taken are evenly spaced quantiles of the lengths, in van der Corput's order (J. G. van der
    Corput, 1935): any stretch of it holds short and long inputs alike, so that thirds of a timing
    loop compare and a loop that is cut off early stays representative. The first is of median
    length, as the first inference is measured on it.

    Returns
    -------
    list of int
        Indices into `lengths`.
    """
    count = min(count, len(lengths))
    if not count:
        return []
    by_length = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    chosen = [by_length[(2 * k + 1) * len(lengths) // (2 * count)] for k in range(count)]
    bits = max(1, math.ceil(math.log2(count)))
    turned = (int(f"{k:0{bits}b}"[::-1], 2) for k in (*range(1, 2**bits), 0))
    return [chosen[k] for k in turned if k < count]


def _length(example: Example) -> int:
    return len(example.text) + sum(len(word) + 1 for word in example.words)


def timing_feeds(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    count: int,
    inputs: InputSettings | None = None,
) -> tuple[list[Feeds], tuple[str | tuple[str, ...], ...]]:
    """Encode the same examples for each candidate.

    Parameters
    ----------
    candidates : sequence of Candidate
    examples : sequence of Example
        What lengths are taken from; when empty, or without a task, inputs come from the
        signature.
    count : int
        How many of them.
    inputs : InputSettings, optional
        What to feed instead of examples.

    Returns
    -------
    feeds : list of Feeds
        One per candidate, over equal items.
    texts : tuple of str or of tuple of str
        Per item; empty for inputs from a signature.

    Raises
    ------
    DataError
        When the candidates cannot be given the same inputs.
    """
    real = [found for found in candidates if found.task and found.preprocessor]
    asked_for = inputs is not None and inputs.given
    if asked_for or not examples or len(real) < len(candidates):
        return [_synthetic(candidate) for candidate in candidates], ()
    chosen = [examples[k] for k in spread([_length(example) for example in examples], count)]
    found: dict[tuple[Path | None, tuple[str, ...]], Feeds] = {}
    keys = []
    for candidate in candidates:
        names: tuple[str, ...] = ()
        if isinstance(candidate.model, OnnxModel):
            names = tuple(spec.name for spec in signature(candidate.model))
        key = (candidate.preprocessor, names)
        if key not in found:
            found[key] = encoded_feeds(candidate, chosen)[0]
        keys.append(key)
    # An example without a single piece for one tokenizer has no row there: leave it out for all.
    common = set(range(len(chosen))).intersection(
        *(set(each.items.tolist()) for each in found.values())
    )
    kept = sorted(common)
    if not kept:
        raise DataError("no example gives a single token; the data to time with is blank")
    texts = tuple(chosen[k].text or chosen[k].words for k in kept)
    trimmed = {key: _keep(each, kept) for key, each in found.items()}
    return [trimmed[key] for key in keys], texts


def _keep(feeds: Feeds, kept: Sequence[int]) -> Feeds:
    number = {item: index for index, item in enumerate(kept)}
    rows = [row for row, item in enumerate(feeds.items.tolist()) if item in number]
    return Feeds(
        {name: tuple(column[row] for row in rows) for name, column in feeds.arrays.items()},
        np.array([number[int(feeds.items[row])] for row in rows], dtype=np.int64),
    )


def _synthetic(candidate: Candidate) -> Feeds:
    if not isinstance(candidate.model, OnnxModel):
        raise DataError("a PyTorch model needs examples to be timed with; name `data`")
    return feeds_from_signature(signature(candidate.model))
