"""Write a PyTorch module as an fp32 ONNX file, with Optimum's exporter or with PyTorch's own."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.errors import StageError
from edgecompress.reading import first_line
from edgecompress.values import Feed

OPSET = 18


def known_to_optimum(module: Any, task: str | None) -> bool:
    """Whether Optimum exports models of this type for this task."""
    with _quiet():
        from optimum.exporters.onnx import model_configs  # noqa: F401 - registers what it exports
        from optimum.exporters.tasks import TasksManager

    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(
            module.config.model_type.replace("_", "-"), "onnx", library_name="transformers"
        )
    except KeyError:
        return False
    return task is None or TasksManager.map_from_synonym(task) in tasks


def export_alone(
    module: Any,
    feed: Feed,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
    target: Path,
    opset: int = OPSET,
) -> None:
    """Export a module of a type that Optimum does not know, with PyTorch's own exporter.

    Parameters
    ----------
    module : torch.nn.Module
        Takes arrays by name and answers with tensors by name.
    feed : mapping of str to ndarray
        A batch of two rows or more.
    axes : mapping of str to mapping of int to str
        Which axes of an input may be of any size, and their names.
    outputs : sequence of str
        What of the answer the graph gives.
    target : Path
        As `export_onnx`.
    opset : int

    Raises
    ------
    StageError
        When the exporter fails.
    """
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = self.model(**dict(zip(feed, given, strict=True)))
            return tuple(answer[name] for name in outputs)

    target.parent.mkdir(parents=True)
    with _quiet():
        try:
            torch.onnx.export(
                Graph().eval(),
                tuple(torch.from_numpy(value) for value in feed.values()),
                target,
                input_names=list(feed),
                output_names=list(outputs),
                dynamic_axes={name: dict(axes[name]) for name in feed},
                opset_version=opset,
                dynamo=False,  # Optimum exports so, too
            )
        except Exception as error:
            shutil.rmtree(target.parent)
            raise StageError(
                f"PyTorch could not export this model ({first_line(error)})"
            ) from error


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
    with _quiet():
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
