"""Open a bundle's model in ONNX Runtime, with the graph and session options that belong to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgecompress.errors import BundleError
from edgecompress.values import SessionSettings

_ERRORS_ONLY = 3  # onnxruntime's severity: 0 verbose … 3 error, 4 fatal


def import_onnxruntime() -> Any:
    """Import onnxruntime without its telemetry; the module.

    It reads the setting when it is imported; without it, it writes below the user's cache folder.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


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
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    level = {"disable": "ORT_DISABLE_ALL"}.get(
        settings.graph_optimization_level, f"ORT_ENABLE_{settings.graph_optimization_level.upper()}"
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # onnxruntime's exceptions share no base but Exception.
    refusals: tuple[type[Exception], ...] = (RuntimeError, ValueError)
    refusals += tuple(
        found
        for found in vars(state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    )
    try:
        for key, value in settings.config_entries:
            options.add_session_config_entry(key, value)
        return ort.InferenceSession(
            os.fspath(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.disabled_optimizers) or None,
        )
    except refusals as error:
        raise BundleError(
            f"{model}: ONNX Runtime {ort.__version__} cannot open it ({first_line(error)})"
        ) from None


def first_line(error: Exception) -> str:
    """Give the first line of what ONNX Runtime says, or the error's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
