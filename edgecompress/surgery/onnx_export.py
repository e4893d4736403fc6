"""Write a transformers model as an fp32 ONNX file with Optimum, or say how to trace it."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from edgecompress.errors import StageError
from edgecompress.processors.text import AXES
from edgecompress.reading import first_line
from edgecompress.surgery.dynamo_export import Traced
from edgecompress.surgery.families import family_of
from edgecompress.tasks import task as find_task

OPSET = 18
# torch.export takes sizes 0 and 1 for constants: trace with others.
TRACED_SHAPE = (2, 7)
Exporter = Literal["dynamo", "optimum"]


def choose_exporter(module: Any, task: str | None) -> Exporter:
    """Give Optimum's exporter where it is installed and knows the model, else PyTorch's.

    Where it is installed, graphs stay those that they have been, and are made ten times as fast.
    """
    theirs = type(module).__module__.startswith("transformers.")
    known = theirs and optimum_is_installed() and _known_to_optimum(module, task)
    return "optimum" if known else "dynamo"


def optimum_is_installed() -> bool:
    """Whether Optimum's exporter for ONNX is installed."""
    try:
        return importlib.util.find_spec("optimum.exporters.onnx") is not None
    except ModuleNotFoundError:  # optimum itself, or its folder of exporters
        return False


def traced_encoder(module: Any, task: str | None) -> Traced:
    """Say what PyTorch's exporter follows through a text encoder of a described family."""
    import torch

    names = input_names(module)
    module.config.return_dict = True
    return Traced(
        {name: torch.ones(TRACED_SHAPE, dtype=torch.int64) for name in names},
        dict.fromkeys(names, AXES),
        tuple(one.name for one in find_task(task).outputs) if task else ("last_hidden_state",),
    )


def input_names(module: Any) -> tuple[str, ...]:
    """Give the inputs of a text encoder: those of Optimum's export, in its order.

    RoBERTa's relatives (positions behind the padding id) accept segment ids but know only one.
    """
    taken = inspect.signature(module.forward).parameters
    segments = "token_type_ids" in taken and not family_of(module.config).position_offset
    return ("input_ids", "attention_mask", *(["token_type_ids"] if segments else []))


def export_with_optimum(module: Any, task: str | None, target: Path, opset: int = OPSET) -> None:
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
        When Optimum fails, or does not run here.
    """
    folder = target.parent.with_name(f"{target.parent.name}-export")
    with _quiet():
        try:
            from optimum.exporters.onnx import onnx_export_from_model

            onnx_export_from_model(
                module,
                folder,
                opset=opset,
                task=task or "feature-extraction",
                do_validation=False,
                preprocessors=[],
            )
        except (ImportError, AttributeError) as error:
            raise StageError(_why_no_optimum(error)) from None
        except (RuntimeError, ValueError, NotImplementedError, KeyError, TypeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise StageError(f"Optimum could not export this model ({lines[0]})") from error
    target.parent.mkdir(parents=True)
    # Optimum leaves configuration files beside it, which the candidate has elsewhere.
    for file in folder.glob("model.onnx*"):
        file.rename(target.parent / file.name)
    shutil.rmtree(folder)


def _known_to_optimum(module: Any, task: str | None) -> bool:
    """Whether Optimum exports models of this type for this task."""
    with _quiet():
        try:
            # It registers what Optimum exports.
            from optimum.exporters.onnx import model_configs  # noqa: F401
            from optimum.exporters.tasks import TasksManager
        except (ImportError, AttributeError):  # with a transformers that is too new for it
            return False
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(
            module.config.model_type.replace("_", "-"), "onnx", library_name="transformers"
        )
    except KeyError:
        return False
    return task is None or TasksManager.map_from_synonym(task) in tasks


def _why_no_optimum(error: Exception) -> str:
    import transformers

    cause = first_line(error) if optimum_is_installed() else "it is not installed"
    return (
        f"Optimum's exporter does not run here with transformers {transformers.__version__} "
        f"({cause}): use `exporter: dynamo`, or an environment of its own that has the extra "
        "`optimum` and transformers 4.57"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice, which is meant for its authors; failures come as exceptions."""
    logging.getLogger("optimum").setLevel(logging.ERROR)
    hidden = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(hidden),
        contextlib.redirect_stdout(hidden),
    ):
        warnings.simplefilter("ignore")
        yield
