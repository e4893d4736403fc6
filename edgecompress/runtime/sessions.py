"""Open a bundle's model in ONNX Runtime, with the graph and session options that belong to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgecompress.errors import BundleError
from edgecompress.values import SessionSettings

_FATAL_ONLY = 4
"""Of onnxruntime's severities. What it refuses it also raises, and that becomes a sentence here;
its log would write a stranger's names to the terminal as they are."""


def import_onnxruntime() -> Any:
    """Import onnxruntime without its telemetry; the module.

    It reads the setting when it is imported; without it, it writes below the user's cache folder.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    return onnxruntime


def refusals() -> tuple[type[Exception], ...]:
    """Give what ONNX Runtime raises where it refuses a model, a setting or an input.

    Its own exceptions share no base but Exception; what it does not foresee comes as Python's.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (
        found
        for found in vars(state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    )
    return (RuntimeError, ValueError, UnicodeError, *own)


def open_session(model: Path, settings: SessionSettings, threads: int) -> Any:
    """Open an ONNX file on the CPU.

    Parameters
    ----------
    model : Path
    settings : SessionSettings
        The bundle's: optimization level, disabled optimizers and session configuration.
    threads : int
        Threads within an operator, at least 1.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    BundleError
        When ONNX Runtime refuses the file or a setting.
    """
    ort = import_onnxruntime()
    level = {"disable": "ORT_DISABLE_ALL"}.get(
        settings.graph_optimization_level, f"ORT_ENABLE_{settings.graph_optimization_level.upper()}"
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    try:
        for key, value in settings.config_entries:
            options.add_session_config_entry(key, value)
        return ort.InferenceSession(
            os.fspath(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.disabled_optimizers) or None,
        )
    except refusals() as error:
        raise BundleError(
            f"{model}: ONNX Runtime {ort.__version__} cannot open it ({first_line(error)})"
        ) from None


def first_line(error: Exception) -> str:
    """Give the first line of what ONNX Runtime says, or the error's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
