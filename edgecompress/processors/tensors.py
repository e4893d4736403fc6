"""Rows that are arrays already: sequences of numbers, tables, what another program has computed.

It needs no files. Rows of unlike length are padded with zeros along their first axis; a graph that
takes ``attention_mask`` is told what is real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.processors.base import Array, Processor

MASK = "attention_mask"


class TensorProcessor(Processor):
    """Gives arrays on as they are."""

    kind: ClassVar[str] = "tensors"
    needs_files: ClassVar[bool] = False
    input_names: tuple[str, ...] = ()
    digest: str = "tensors"

    @classmethod
    def load(cls, directory: Path | None) -> TensorProcessor:  # noqa: ARG003 - it has no files
        """Make one."""
        return cls()

    def axes(self, feed: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Name the batch's axis and the one behind it, along which rows are padded."""
        return {
            name: dict(enumerate(("batch", "length")[: one.ndim])) for name, one in feed.items()
        }

    def inputs(self, feed: Mapping[str, Array]) -> tuple[str, ...]:
        """Name what a row has, and the mask of what is no padding."""
        return tuple(dict.fromkeys((*feed, MASK)))

    def batch(self, feeds: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Array]:
        """Stack arrays, padded with zeros to the longest."""
        made: dict[str, Array] = {}
        lengths = [max((len(x) for x in feed.values() if x.ndim), default=0) for feed in feeds]
        for name in names:
            if name == MASK and name not in feeds[0]:
                most = max(lengths)
                made[name] = (np.arange(most) < np.array(lengths)[:, None]).astype(np.int64)
                continue
            if any(name not in feed for feed in feeds):
                known = ", ".join(feeds[0])
                raise DataError(f"the model wants an input {name!r}; the data give {known}")
            made[name] = _stacked([feed[name] for feed in feeds])
        return made


def _stacked(arrays: Sequence[Array]) -> Array:
    most = max((len(one) for one in arrays if one.ndim), default=0)
    padded = [
        np.concatenate((one, np.zeros((most - len(one), *one.shape[1:]), one.dtype)))
        if one.ndim and len(one) < most
        else one
        for one in arrays
    ]
    return np.stack(padded)
