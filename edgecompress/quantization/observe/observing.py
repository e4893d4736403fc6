"""One pass of samples through a model, sample by sample, with inner tensors as outputs.

Each sample is run alone and unpadded, so padding is never counted. What is kept of the values is
the affair of collectors: histograms (`calibration`), channels (`channels`), Hessians (`gptq`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.models.session import ORT_ERRORS, first_line, open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.layers import name_nodes
from edgecompress.values import Feed, OnnxModel

Array = np.ndarray[Any, Any]


def observe(model: OnnxModel, names: Sequence[str], folder: Path) -> OnnxModel:
    """Write a copy of `model` that gives the tensors `names` as further outputs.

    Inputs of the graph among them need none: `observed` reads them from the samples.
    """
    stored = read_model(model.path)
    name_nodes(stored)
    graph = stored.proto.graph
    known = {value.name for value in (*graph.output, *graph.input)}
    for name in sorted(set(names) - known):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    folder.mkdir(parents=True, exist_ok=True)
    copy = OnnxModel(folder / "observed.onnx", model.session)
    write_model(stored, copy.path)
    return copy


@contextmanager
def observing(model: OnnxModel, names: Sequence[str], folder: Path) -> Iterator[OnnxModel]:
    """Give what `observe` writes into `folder`, and remove it: it is large and soon made again."""
    copy = observe(model, names, folder)
    try:
        yield copy
    finally:
        shutil.rmtree(copy.directory, ignore_errors=True)


def observed(
    model: OnnxModel,
    names: Sequence[str],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    done: int = 0,
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Run samples and yield the number of each, from 1 on, with the values of its tensors.

    Parameters
    ----------
    model : OnnxModel
        What `observe` wrote.
    names : sequence of str
    feeds : iterable of dict
        The samples. What ``attention_mask`` (batch, length) says is padding is left out of tensors
        of (batch, length, …) and (batch · length, …).
    threads : int
    done : int
        So many of the samples are passed over.

    Raises
    ------
    StageError
        When there is no sample, or one does not fit the model or holds NaN or infinite values.
    """
    session = open_session(model, threads)
    inputs = {value.name for value in session.get_inputs()}
    asked = [name for name in names if name not in inputs]
    count = 0
    for count, feed in enumerate(feeds, 1):
        if count <= done:
            continue
        check_finite(feed, count)
        try:
            outputs = dict(zip(asked, session.run(asked, feed) if asked else (), strict=True))
        except ORT_ERRORS as error:
            raise StageError(
                f"calibration sample {count} does not fit the model ({first_line(error)})"
            ) from None
        given = {name: feed[name] for name in names if name in inputs}
        yield count, {n: without_padding((outputs | given)[n], feed) for n in names}
    if not count and names:
        raise StageError("no sample to calibrate with")


def check_finite(feed: Feed, number: int) -> None:
    """Refuse a sample that holds NaN or infinite values itself.

    Raises
    ------
    StageError
        Naming the sample and the input.
    """
    for name, values in feed.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise StageError(
                f"calibration sample {number} holds NaN or infinite values in {name}: leave the "
                "sample out, or mend it"
            )


def without_padding(values: Array, feed: Feed) -> Array:
    """Leave out the values at padded positions, where the mask tells them and the layout fits.

    Parameters
    ----------
    values : ndarray, shape (batch, length, …) or (batch · length, …)
        Of any other shape they are all kept.
    feed : dict of str to ndarray
    """
    mask = feed.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.all():
        return values
    if values.shape[:2] == mask.shape:
        return values[mask.astype(bool)]
    if values.ndim == 2 and len(values) == mask.size:
        return values[mask.ravel().astype(bool)]
    return values
