"""Open an ONNX model as the runtime does, and make up inputs that its signature accepts.

`edgecompress.targets.agent` is sent to boards and so carries its own copy of `open_session`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from edgecompress.errors import StageError
from edgecompress.values import OnnxModel, SessionSettings, TensorSpec

Feed = dict[str, np.ndarray[Any, Any]]

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

# ONNX Runtime's exceptions share no base class of their own.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        found
        for found in vars(ort_state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ),
)

ERRORS_ONLY = 3
DTYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}


def session_options(settings: SessionSettings, threads: int = 1) -> ort.SessionOptions:
    """Translate `settings` into ONNX Runtime's options (quiet, `threads` compute threads)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = LEVELS[settings.graph_optimization_level]
    for key, value in settings.config_entries:
        options.add_session_config_entry(key, value)
    return options


def open_session(
    model: OnnxModel, threads: int = 1, options: ort.SessionOptions | None = None
) -> ort.InferenceSession:
    """Open `model` on the CPU with the session that it wants.

    Parameters
    ----------
    model : OnnxModel
    threads : int
        Compute threads of one operator.
    options : SessionOptions, optional
        Options from `session_options` to which more was added.

    Raises
    ------
    StageError
        When ONNX Runtime refuses the file.
    """
    try:
        return ort.InferenceSession(
            str(model.path),
            options or session_options(model.session, threads),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(model.session.disabled_optimizers) or None,
        )
    except ORT_ERRORS as error:
        first = str(error).strip().splitlines()[0]
        raise StageError(f"{model.path}: ONNX Runtime cannot load this file ({first})") from None


def input_specs(session: ort.InferenceSession) -> tuple[TensorSpec, ...]:
    """Name, dtype (``tensor(int64)`` …) and shape of each input of `session`."""
    return tuple(TensorSpec(i.name, i.type, tuple(i.shape)) for i in session.get_inputs())


def random_feed(
    specs: Iterable[TensorSpec],
    batch: int,
    length: int,
    *,
    bounds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Feed:
    """Make inputs that fit a signature, for graphs of which no data is at hand.

    Integer inputs hold ids below ``bounds[name]`` (2 where unknown); names with ``mask`` are all
    ones; floats are standard normal. The first dynamic axis is `batch`, further ones are `length`.

    Returns
    -------
    dict of str to ndarray
        Shapes as in `specs` with dynamic axes filled in.

    Raises
    ------
    StageError
        For an input type that cannot be made up.
    """
    random = np.random.default_rng(seed)
    feed: Feed = {}
    for spec in specs:
        if spec.dtype not in DTYPES:
            raise StageError(f"input {spec.name} has type {spec.dtype}: give example inputs")
        sizes = {"channel": 3, "height": 224, "width": 224, "batch": batch}
        shape = tuple(
            size
            if isinstance(size, int)
            else next(
                (n for part, n in sizes.items() if part in str(size)), length if axis else batch
            )
            for axis, size in enumerate(spec.shape)
        )
        dtype = DTYPES[spec.dtype]
        if "mask" in spec.name or dtype is np.bool_:
            feed[spec.name] = np.ones(shape, dtype)
        elif np.issubdtype(dtype, np.integer):
            high = (bounds or {}).get(spec.name, 2)
            feed[spec.name] = random.integers(0, high, shape).astype(dtype)
        else:
            feed[spec.name] = random.standard_normal(shape).astype(dtype)
    return feed
