"""Open a bundle's model in ONNX Runtime, with the graph and session options that belong to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecompress.errors import BundleError
from edgecompress.models.session import (
    ORT_ERRORS,
    VERSION,
    bare_session,
    first_line,
    session_options,
)
from edgecompress.values import SessionSettings


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
    try:
        return bare_session(model, settings, session_options(settings, threads))
    except ORT_ERRORS as error:
        raise BundleError(
            f"{model}: ONNX Runtime {VERSION} cannot open it ({first_line(error)})"
        ) from None
