"""Open an ONNX model as the runtime does, and read what it takes.

`edgecompress.targets.agent` is sent to boards and so carries its own copy of `open_session`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from edgecompress.errors import StageError
from edgecompress.models.fitting import row_of
from edgecompress.models.graph import NO_NAMES
from edgecompress.models.sizes import Plan
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
DTYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}
"""By ONNX Runtime's names; all types of inputs that can be fed."""


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


def numbers(outputs: Iterable[Any]) -> list[np.ndarray[Any, Any]]:
    """Give the arrays of numbers among a model's outputs, those in lists and maps included.

    Classifiers of other libraries give words, and a map of probabilities for each row.
    """
    found: list[np.ndarray[Any, Any]] = []
    for output in outputs:
        if isinstance(output, dict):
            found += numbers([np.array([output[key] for key in sorted(output)])])
        elif isinstance(output, list):
            found += numbers(output)
        elif output is not None and np.asarray(output).dtype.kind in "biuf":
            found.append(np.asarray(output))
    return found


def input_specs(session: ort.InferenceSession) -> tuple[TensorSpec, ...]:
    """Name, dtype (``tensor(int64)`` …) and shape of each input of `session`.

    An open size without a name is called ``input.axis``.
    """
    return tuple(
        TensorSpec(
            found.name,
            found.type,
            tuple(
                size
                if isinstance(size, int) and size >= 0
                else f"{found.name}.{axis}"
                if isinstance(size, int) or size is None or size in NO_NAMES
                else size
                for axis, size in enumerate(found.shape)
            ),
        )
        for found in session.get_inputs()
    )


def random_feed(
    specs: Iterable[TensorSpec],
    batch: int,
    length: int,
    *,
    bounds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Feed:
    """Make inputs that fit a signature, for graphs of which no data is at hand.

    Whether the graph runs on them is not known: `edgecompress.models.inputs.made_feeds` sees
    to that. Values are as `edgecompress.models.made` says, with ids below ``bounds[name]``.

    Returns
    -------
    dict of str to ndarray
        Shapes as in `specs` with open axes filled in.

    Raises
    ------
    StageError
        For an input type that cannot be made up.
    """
    ranges = {name: (0, high) for name, high in (bounds or {}).items()}
    return row_of(numpy_specs(specs), ranges, Plan(batch=batch, length=length), seed)


def numpy_specs(specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    """Give specs with numpy's names of dtypes in the place of ONNX Runtime's.

    Raises
    ------
    StageError
        For a type that is no number.
    """
    found = []
    for spec in specs:
        if spec.dtype not in DTYPES:
            raise StageError(
                f"input {spec.name} has type {spec.dtype}, and only numbers can be fed; leave what "
                "turns it into numbers out of the graph"
            )
        found.append(TensorSpec(spec.name, np.dtype(DTYPES[spec.dtype]).name, spec.shape))
    return found
