"""Which rows to ask a model about together: neighbours in length, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecompress.examples import input_length
from edgecompress.texts import running_text
from edgecompress.values import Example

MAX_TOKENS = 8192
"""Most tokens of a batch, padding included: bounds what its activations take (16 rows of 512)."""

_STEP = 8  # tokens: in short rows the fixed cost of a call counts for more than padding
_WASTE = 1.25  # tokens with padding over tokens without


def length_batches(
    lengths: Sequence[int], size: int, *, padding: bool = True, max_tokens: int = MAX_TOKENS
) -> list[list[int]]:
    """Divide rows into batches of similar length.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each row.
    size : int
        Most rows of a batch.
    padding : bool
        Whether rows of one batch may differ in length; False for a model without a mask.
    max_tokens : int
        Most tokens of a batch with its padding; a longer row stands alone.

    Returns
    -------
    list of list of int
        Every row once, in batches; the longest rows come first, so that memory is asked for once.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    if size == 1:
        return [[row] for row in range(len(lengths))]
    batches: list[list[int]] = []
    longest = tokens = 0
    for row in order:
        step = -(-lengths[row] // _STEP) * _STEP if padding else lengths[row]
        count = len(batches[-1]) + 1 if batches else 0
        full = longest * count
        fits = full <= max_tokens and (
            full <= _WASTE * (tokens + step) if padding else step == longest
        )
        if batches and count <= size and fits:
            batches[-1].append(row)
            tokens += step
        else:
            batches.append([row])
            longest = tokens = step
    return batches


def size_of(example: Example) -> int:
    """Characters of a text, else the length of other inputs."""
    return len(running_text(example)) or input_length(example)


def as_text(value: Any) -> str:
    """Give a text as it is; anything else is refused."""
    if not isinstance(value, str):
        raise TypeError(f"a text must be a str, not {type(value).__name__}")
    return value
