"""Write a PyTorch module as an fp32 ONNX file, with Optimum's exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from edgecompress.errors import StageError

OPSET = 18


def export_onnx(module: Any, task: str | None, target: Path, opset: int = OPSET) -> None:
    """Export a module with dynamic batch and sequence axes.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    task : str, optional
        As Optimum calls it; without one the hidden states are the output.
    target : Path
        ``model.onnx`` in a folder that does not exist yet; external data go beside it.
    opset : int

    Raises
    ------
    StageError
        When the exporter fails.
    """
    folder = target.parent.with_name(f"{target.parent.name}-export")
    # The exporter's advice is meant for its authors; failures come as exceptions.
    logging.getLogger("optimum").setLevel(logging.ERROR)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), quiet, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from optimum.exporters.onnx import onnx_export_from_model

        try:
            onnx_export_from_model(
                module,
                folder,
                opset=opset,
                task=task or "feature-extraction",
                do_validation=False,
                preprocessors=[],
            )
        except (RuntimeError, ValueError, NotImplementedError, KeyError, TypeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise StageError(f"Optimum could not export this model ({lines[0]})") from error
    target.parent.mkdir(parents=True)
    # Optimum leaves configuration files beside it, which the candidate has elsewhere.
    for file in folder.glob("model.onnx*"):
        file.rename(target.parent / file.name)
    shutil.rmtree(folder)
