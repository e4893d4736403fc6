"""Real inputs for a model: a candidate's examples, encoded by its own preprocessor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgecompress.errors import StageError
from edgecompress.generation.states import unread
from edgecompress.models.fitting import row_of
from edgecompress.models.graph import signature
from edgecompress.models.session import numbers
from edgecompress.models.sizes import SizePlan
from edgecompress.models.synthetic import made_feeds
from edgecompress.tasks import Rows, rows_of, takes_examples
from edgecompress.values import Candidate, Example, Feed, OnnxModel, TensorSpec

# Rows of the padded batch, beside single rows, that parity is checked on.
PARITY_BATCH = 4
# Of examples that are given, so many are encoded to choose rows from.
PARITY_EXAMPLES = 64
RANDOM_SHAPES = ((1, 5), (1, 11), (3, 9))
RANDOM_PADDED_FROM = 6  # the last row of the last shape ends here


def onnx_model(candidate: Candidate) -> OnnxModel:
    """Give the candidate's model, which must be an ONNX file.

    Raises
    ------
    StageError
        When it is a PyTorch model.
    """
    if not isinstance(candidate.model, OnnxModel):
        raise StageError("this stage takes an ONNX model: put `export` before it")
    return candidate.model


def encode_rows(candidate: Candidate, examples: Sequence[Example]) -> Rows | None:
    """Make rows of `examples` as `candidate` does; None where nothing says how."""
    if not examples or not takes_examples(candidate):
        return None
    rows = rows_of(candidate, examples)
    return rows if len(rows) else None


def typed_feed(rows: Rows, numbers: Sequence[int], specs: Iterable[TensorSpec]) -> Feed:
    """Make the inputs of some rows, padded to the longest, in the dtypes of `specs`."""
    given = tuple(specs)
    types = {spec.name: spec.dtype for spec in given}
    made = rows.batch(numbers, given)
    return {name: np.asarray(value, dtype=types[name]) for name, value in made.items()}


def parity_feeds(
    candidate: Candidate,
    examples: Sequence[Example],
    source: OnnxModel | Sequence[TensorSpec],
    seed: int,
    bounds: Mapping[str, int] | None = None,
) -> list[Feed]:
    """Choose inputs on which two forms of a model must agree.

    The shortest, a middling and the longest row alone and a padded batch of mixed lengths; random
    ids of several shapes when there are no examples.

    Parameters
    ----------
    candidate : Candidate
    examples : sequence of Example
    source : OnnxModel or sequence of TensorSpec
        The graph, on which what is made up does run; or what another model takes.
    seed : int
    bounds : mapping, optional
        Beside specs: how many values an input may have as an index, from 0.
    """
    rows = encode_rows(candidate, examples[:PARITY_EXAMPLES])
    if rows is None:
        ranges = {name: (0, high) for name, high in (bounds or {}).items()}
        feeds = (
            made_feeds(source, RANDOM_SHAPES, seed)
            if isinstance(source, OnnxModel)
            else [
                row_of(source, ranges, SizePlan(*shape), seed + number)
                for number, shape in enumerate(RANDOM_SHAPES)
            ]
        )
        inputs = signature(source) if isinstance(source, OnnxModel) else source
        feeds = [unread(feed, inputs) for feed in feeds]
        if "attention_mask" in feeds[-1]:
            feeds[-1]["attention_mask"][-1, RANDOM_PADDED_FROM:] = 0
        return feeds
    specs = signature(source) if isinstance(source, OnnxModel) else source
    order = [int(row) for row in np.argsort(rows.lengths, kind="stable")]
    alone = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
    picks = np.linspace(0, len(order) - 1, min(PARITY_BATCH, len(order))).astype(int)
    batch = [order[int(pick)] for pick in picks]
    return [typed_feed(rows, [row], specs) for row in alone] + [typed_feed(rows, batch, specs)]


def largest_difference(
    expected: Sequence[np.ndarray], found: Sequence[np.ndarray], feed: Feed
) -> float:
    """Largest absolute difference of outputs, where the input is no padding.

    Parameters
    ----------
    expected, found : sequence of ndarray
        Outputs of two models, (batch, …) or (batch, length, …) each; what is no number is left out.
    feed : dict of str to ndarray
        Their input; its ``attention_mask`` (batch, length) says what is padding.
    """
    mask = feed.get("attention_mask")
    worst = 0.0
    before, after = numbers(expected), numbers(found)
    if len(before) != len(after):
        return float("inf")
    for first, second in zip(before, after, strict=True):
        if first.shape != second.shape:
            return float("inf")
        gap = np.abs(first.astype(np.float64) - second)
        if mask is not None and gap.shape[:2] == mask.shape:
            gap = gap[mask.astype(bool)]
        if gap.size:
            largest = float(gap.max())
            worst = max(worst, largest if np.isfinite(largest) else float("inf"))
    return worst
