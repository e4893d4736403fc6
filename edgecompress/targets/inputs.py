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
from edgecompress.examples import input_length
from edgecompress.models.given import file_items
from edgecompress.models.graph import signature
from edgecompress.models.synthetic import synthetic_items
from edgecompress.targets.base import Feeds, feeds_from_rows
from edgecompress.targets.loadable import check_loadable
from edgecompress.tasks import Rows, rows_of, takes_examples, task
from edgecompress.values import Candidate, Example, Feed, OnnxModel, TensorSpec, file_digest


class InputSettings(BaseModel):
    """What an ONNX file is fed where no data says it; left empty, its signature decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    file: Path | None = None
    """An .npz file with an array for each input, or `0/input`, `1/input`, … for several items;
    with it, sizes and bounds are the file's."""
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
            When there is no such file, or sizes or bounds are set beside it.
        """
        if self.file is not None and not self.file.is_file():
            raise DataError("there is no such file of inputs", file=self.file)
        if self.file is not None and (self.sizes or self.bounds):
            raise DataError(
                "the inputs are given as they are; leave out sizes and bounds", file=self.file
            )

    @property
    def given(self) -> bool:
        """Whether anything is set."""
        return bool(self.file or self.sizes or self.bounds)

    def source(self, examples: Sequence[object]) -> str:
        """Say where inputs come from: ``examples``, a ``file``, a ``signature``."""
        return "examples" if examples else "file" if self.file is not None else "signature"


def question(example: Example) -> Example:
    """Take the labels off an example: a model is never shown them."""
    return replace(example, target=None)


def encoded_feeds(
    candidate: Candidate, examples: Sequence[Example]
) -> tuple[Feeds, Rows, tuple[str | TensorSpec, ...]]:
    """Make rows of examples with the candidate's own processor, one row at a time (batch 1).

    Returns
    -------
    feeds : Feeds
    rows : Rows
        Nobody has said what their answers are.
    inputs : tuple of str or TensorSpec
        What the model takes, as `Rows.batch` is told it.

    Raises
    ------
    DataError
        When the candidate has no task or no processor, or wants inputs that its rows do not give.
    """
    rows = rows_of(candidate, [question(example) for example in examples])
    first = next((row.feed for row in rows), {})
    names: tuple[str | TensorSpec, ...] = rows.processor.inputs(first)
    if isinstance(candidate.model, OnnxModel):
        names = tuple(signature(candidate.model))
    made = [rows.batch([row], names) for row in range(len(rows))]
    return feeds_from_rows(made, rows.example.tolist()), rows, names


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


def timing_feeds(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    count: int,
    inputs: InputSettings | None = None,
) -> tuple[list[Feeds], tuple[Example, ...]]:
    """Give each candidate the same inputs: examples, a file's, or ones made from its signature.

    Parameters
    ----------
    candidates : sequence of Candidate
    examples : sequence of Example
        What lengths are taken from; when empty, or without a task, inputs are made from the
        signature.
    count : int
        How many of them.
    inputs : InputSettings, optional
        What to feed instead of examples.

    Returns
    -------
    feeds : list of Feeds
        One per candidate, over equal items.
    examples : tuple of Example
        Per item, without its answer; empty for inputs from a file or a signature.

    Raises
    ------
    DataError
        When the candidates cannot be given the same inputs, or ONNX Runtime cannot load one.
    RecipeError
        When `inputs` names what the graphs do not have.
    """
    inputs = inputs or InputSettings()
    graphs = [found.model for found in candidates if isinstance(found.model, OnnxModel)]
    for graph in graphs:
        check_loadable(graph)
    real = [found for found in candidates if takes_examples(found)]
    if inputs.given or not examples or len(real) < len(candidates):
        if len(graphs) < len(candidates):
            raise DataError(
                "a PyTorch model is timed with examples only; name `data`, and no inputs"
            )
        if inputs.file is not None:
            return _packed(file_items(graphs, inputs.file)), ()
        return _packed(synthetic_items(graphs, inputs.sizes, inputs.bounds)), ()
    kind = task(str(real[0].task))
    examples = [kind.timed(example) for example in examples]
    chosen = [examples[k] for k in spread([input_length(example) for example in examples], count)]
    found: dict[tuple[Path | None, tuple[str, ...]], Feeds] = {}
    keys = []
    for candidate in candidates:
        names: tuple[str, ...] = ()
        if isinstance(candidate.model, OnnxModel):
            names = tuple(spec.name for spec in signature(candidate.model))
        key = (candidate.preprocessor, names)
        if key not in found:
            seconds = tuple(kind.seconds(example) for example in chosen)
            made = encoded_feeds(candidate, chosen)[0]
            found[key] = replace(made, seconds=seconds if all(seconds) else ())
        keys.append(key)
    # An example without a single piece for one tokenizer has no row there: leave it out for all.
    common = set(range(len(chosen))).intersection(
        *(set(each.items.tolist()) for each in found.values())
    )
    kept = sorted(common)
    if not kept:
        raise DataError("no example gives a single token; the data to time with is blank")
    trimmed = {key: keep(each, kept) for key, each in found.items()}
    return [trimmed[key] for key in keys], tuple(question(chosen[k]) for k in kept)


def _packed(items: Sequence[list[Feed]]) -> list[Feeds]:
    """Pack the items of each graph; those that are the same stay the same."""
    made = {id(rows): feeds_from_rows(rows, range(len(rows))) for rows in items}
    return [made[id(rows)] for rows in items]


def keep(feeds: Feeds, kept: Sequence[int]) -> Feeds:
    """Leave only the items `kept`, numbered anew in that order; their rows stay in theirs."""
    number = {item: index for index, item in enumerate(kept)}
    rows = [row for row, item in enumerate(feeds.items.tolist()) if item in number]
    return Feeds(
        {name: tuple(column[row] for row in rows) for name, column in feeds.arrays.items()},
        np.array([number[int(feeds.items[row])] for row in rows], dtype=np.int64),
        tuple(feeds.seconds[item] for item in kept) if feeds.seconds else (),
    )
