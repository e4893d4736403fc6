"""Open an ONNX file in ONNX Runtime with the session that belongs to it; nothing else is imported.

`edgecompress.targets.agent` is sent to boards and so carries its own copy of `bare_session`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from edgecompress.errors import StageError
from edgecompress.models.specs import named_size, numpy_name
from edgecompress.values import OnnxModel, SessionSettings, TensorSpec

FATAL_ONLY = 4
"""Of ONNX Runtime's severities. What it refuses it also raises, and that becomes a sentence here;
its log would write a stranger's names to the terminal as they are."""

VERSION = str(ort.__version__)

ort.set_default_logger_severity(FATAL_ONLY)

# ONNX Runtime's exceptions share no base class of their own; what it does not foresee comes as
# Python's.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        found
        for found in vars(ort_state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ),
)


def session_options(settings: SessionSettings, threads: int = 1) -> ort.SessionOptions:
    """Translate `settings` into ONNX Runtime's options.

    Parameters
    ----------
    settings : SessionSettings
    threads : int
        Compute threads of one operator; 0 is one for each physical core.
    """
    level = settings.graph_optimization_level
    name = "ORT_DISABLE_ALL" if level == "disable" else f"ORT_ENABLE_{level.upper()}"
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    for key, value in settings.config_entries:
        options.add_session_config_entry(key, value)
    return options


def bare_session(
    path: Path, settings: SessionSettings, options: ort.SessionOptions
) -> ort.InferenceSession:
    """Open an ONNX file on the CPU.

    Parameters
    ----------
    path : Path
    settings : SessionSettings
        Its disabled optimizers.
    options : onnxruntime.SessionOptions
        From `session_options`, to which more may have been added.

    Raises
    ------
    One of `ORT_ERRORS`
        When ONNX Runtime refuses the file or a setting.
    """
    return ort.InferenceSession(
        os.fspath(path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(settings.disabled_optimizers) or None,
    )


def open_session(
    model: OnnxModel,
    threads: int = 1,
    options: ort.SessionOptions | None = None,
    *,
    packed: bool = True,
) -> ort.InferenceSession:
    """Open `model` on the CPU with the session that it wants.

    Parameters
    ----------
    model : OnnxModel
    threads : int
        Compute threads of one operator.
    options : SessionOptions, optional
        Options from `session_options` to which more was added.
    packed : bool
        Without it weights stay as they lie in the file, which takes less memory and more time.

    Raises
    ------
    StageError
        When ONNX Runtime refuses the file or a setting.
    """
    try:
        options = options or session_options(model.session, threads)
        if not packed:
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_cpu_mem_arena = False
        return bare_session(model.path, model.session, options)
    except ORT_ERRORS as error:
        raise StageError(
            f"{model.path}: ONNX Runtime cannot load this file ({first_line(error)})"
        ) from None


def first_line(error: BaseException) -> str:
    """Give the first line of what ONNX Runtime says, without its number and its own files."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", said)
    return re.sub(r"/onnxruntime_src/\S+ .*?\) (?=\S)", "", said)


def input_specs(session: ort.InferenceSession) -> tuple[TensorSpec, ...]:
    """Name, dtype and shape of each input of `session`, as `models.graph.signature` reads them.

    An open size without a name is called ``input.axis``.
    """
    return specs_of(session.get_inputs())


def specs_of(values: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """Give what ONNX Runtime says of inputs as `TensorSpec`."""
    return tuple(
        TensorSpec(
            found.name,
            numpy_name(found.type),
            tuple(named_size(found.name, axis, size) for axis, size in enumerate(found.shape)),
        )
        for found in values
    )


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
