"""What each channel of the linear layers' inputs holds: one streaming pass, bounded memory.

`calibration.py` keeps one histogram of a whole tensor; smoothing needs the ends of every channel,
and rows on which to try what a choice does to a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgecompress.errors import StageError
from edgecompress.quantization.observe.observing import observed
from edgecompress.values import Feed, OnnxModel

Array = np.ndarray[Any, Any]

MOST_ROWS = 384
"""Rows of a tensor that are kept, spread evenly over the samples."""


@dataclass(slots=True)
class Channels:
    """What was seen of a tensor of shape (…, channels).

    Attributes
    ----------
    low, high : ndarray, float32, shape (channels,)
        Of all rows.
    rows : ndarray, float32, shape (kept, channels)
        Some rows of every sample.
    """

    low: Array
    high: Array
    rows: Array

    @property
    def most(self) -> Array:
        """Largest absolute value of each channel, float32 (channels,)."""
        return np.maximum(-self.low, self.high)


def one_thread() -> AbstractContextManager[object]:
    """While inside, NumPy multiplies matrices with one thread.

    OpenBLAS divides a sum among its threads: another number of cores gives other last digits, and
    a weight that stands on the edge between two codes falls the other way.
    """
    from threadpoolctl import threadpool_limits

    return cast("AbstractContextManager[object]", threadpool_limits(1, user_api="blas"))


def stream(
    model: OnnxModel,
    names: Sequence[str],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[dict[str, Array]]:
    """Run samples and yield the rows of each tensor, float32 (rows, channels), one at a time.

    Parameters
    ----------
    model : OnnxModel
        What `observing.observe` wrote.
    names : sequence of str
    feeds : iterable of dict
        What their ``attention_mask`` says is padding is left out.
    threads : int
    progress : callable
        Told the number of samples done.

    Raises
    ------
    StageError
        When there is no sample, one does not fit the model, or an activation is not finite.
    """
    for count, found in observed(model, names, feeds, threads=threads):
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise StageError(
                    f"calibration sample {count} makes the activation {name} NaN or infinite: "
                    "leave the sample out, or mend the model"
                )
        yield {name: values.reshape(-1, values.shape[-1]) for name, values in found.items()}
        progress(count)


def collect_channels(samples: Iterable[Mapping[str, Array]], total: int) -> dict[str, Channels]:
    """Keep the ends of every channel, and rows spread over the samples.

    Parameters
    ----------
    samples : iterable of dict
        What `stream` yields.
    total : int
        How many samples there are.
    """
    each = max(1, MOST_ROWS // max(1, total))
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    rows: dict[str, list[Array]] = {}
    for number, sample in enumerate(samples):
        for name, values in sample.items():
            if not len(values):
                continue
            ends = values.min(axis=0), values.max(axis=0)
            low[name] = np.minimum(low[name], ends[0]) if name in low else ends[0]
            high[name] = np.maximum(high[name], ends[1]) if name in high else ends[1]
            kept = rows.setdefault(name, [])
            if number * each < MOST_ROWS:
                places = np.linspace(0, len(values) - 1, min(each, len(values))).astype(int)
                kept.append(values[places])
    return {name: Channels(low[name], high[name], np.concatenate(rows[name])) for name in low}


def save_channels(found: Mapping[str, Channels], file: Path) -> None:
    """Write what was seen."""
    arrays: dict[str, Any] = {"names": np.array(list(found), dtype=np.str_)}
    for number, seen in enumerate(found.values()):
        arrays[f"ends{number}"] = np.stack([seen.low, seen.high])
        arrays[f"rows{number}"] = seen.rows
    np.savez(file, **arrays)


def load_channels(file: Path) -> dict[str, Channels]:
    """Read what `save_channels` wrote."""
    with np.load(file, allow_pickle=False) as saved:
        return {
            str(name): Channels(
                low=saved[f"ends{number}"][0],
                high=saved[f"ends{number}"][1],
                rows=saved[f"rows{number}"],
            )
            for number, name in enumerate(saved["names"])
        }
