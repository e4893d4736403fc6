"""What each channel of the tensors between convolutions holds: its mean and its largest value.

One pass over the samples, of which two numbers a channel are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecompress.quantization.observe.observing import observed, observing
from edgecompress.values import Feed, OnnxModel

if TYPE_CHECKING:
    from edgecompress.context import Context
    from edgecompress.quantization.observe.calibration_data import CalibrationData

CHANNELS = 1
"""Their axis."""
Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class FeatureMap:
    """What was seen of a tensor of shape (batch, channels, …).

    Attributes
    ----------
    mean : ndarray, float64, shape (channels,)
        Over the samples, each of which counts as much.
    most : ndarray, float64, shape (channels,)
        Largest absolute value.
    """

    mean: Array
    most: Array


def collect_maps(
    model: OnnxModel,
    names: Sequence[str],
    feeds: Iterable[Feed],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, FeatureMap]:
    """Run `model` on samples and keep what was seen of its outputs `names`.

    One that has values that are not finite, or not as many channels in each sample, is left out.

    Parameters
    ----------
    model : OnnxModel
        What `observing.observe` wrote.
    names : sequence of str
    feeds : iterable of dict
    progress : callable
        Told the number of samples done.

    Raises
    ------
    StageError
        When there is no sample, or one does not fit the model.
    """
    found: dict[str, FeatureMap] = {}
    left: set[str] = set()
    count = 0
    for count, values in observed(model, names, feeds):
        for name, array in values.items():
            if name in left or array.ndim < CHANNELS + 1 or not np.isfinite(array).all():
                left.add(name)
                continue
            planes = array.reshape(*array.shape[:2], -1).astype(np.float64)
            mean, most = planes.mean(axis=(0, 2)), np.abs(planes).max(axis=(0, 2), initial=0.0)
            if name not in found:
                found[name] = FeatureMap(np.zeros_like(mean), np.zeros_like(most))
            if found[name].mean.shape != mean.shape:
                left.add(name)
                continue
            found[name].mean += mean
            found[name].most = np.maximum(found[name].most, most)
        progress(count)
    for one in found.values():
        one.mean /= count
    return {name: one for name, one in found.items() if name not in left}


def maps_on(
    data: CalibrationData, source: OnnxModel, names: Sequence[str], context: Context
) -> Mapping[str, FeatureMap]:
    """Give what a pass over the samples saw; it is kept for other fields and candidates.

    Parameters
    ----------
    data : CalibrationData
    source : OnnxModel
    names : sequence of str
        Tensors of the graph, of shape (batch, channels, …).
    context : Context
    """
    from edgecompress.onnx_files import model_digests

    def build(folder: Path) -> None:
        with observing(source, names, context.scratch / "observed") as copy:
            found = collect_maps(
                copy,
                names,
                data.feeds(),
                progress=lambda done: context.progress(done, data.count, "channels"),
            )
        places = {names.index(name): one for name, one in found.items()}
        arrays = {f"mean{place}": one.mean for place, one in places.items()}
        arrays |= {f"most{place}": one.most for place, one in places.items()}
        np.savez(folder / "maps.npz", **arrays)  # type: ignore[arg-type]

    key = {"kind": "maps", "model": model_digests(source), "tensors": list(names), **data.key}
    with np.load(context.cached(key, build) / "maps.npz", allow_pickle=False) as saved:
        return {
            name: FeatureMap(saved[f"mean{place}"], saved[f"most{place}"])
            for place, name in enumerate(names)
            if f"mean{place}" in saved
        }
