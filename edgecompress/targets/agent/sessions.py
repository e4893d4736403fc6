"""Models as the agent runs them: a function from one row of inputs to outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by onnxruntime when it is imported

import numpy as np

from edgecompress.targets.agent.arrays import Feed


class LoadedModel(Protocol):
    """A loaded model: the dtype of each of its inputs, and a function from feed to outputs."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any] | None]:
        """Give the dtype of each input, by its name."""
        ...

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference; every output in the order of the job's ``outputs``."""
        ...


class Null:
    """The model that does nothing."""

    dtypes: Mapping[str, np.dtype[Any] | None] = {}

    def __call__(self, _feed: Feed, /) -> Sequence[np.ndarray]:
        """Do nothing."""
        return ()


class OnnxSession:
    """An ONNX Runtime session on the CPU with the settings that belong to the model."""

    def __init__(self, entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> None:
        import onnxruntime as ort

        settings = entry.get("session") or {}
        options = ort.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        level = settings.get("graph_optimization_level", "all")
        name = "ORT_DISABLE_ALL" if level == "disable" else f"ORT_ENABLE_{level.upper()}"
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
        options.enable_cpu_mem_arena = bool(job.get("arena", True))
        if job["mode"] == "operators":
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
        if job["mode"] == "answers":  # nothing is timed: leave idle cores to others
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for key, value in settings.get("config_entries", ()):
            options.add_session_config_entry(key, value)
        self._session = ort.InferenceSession(
            str(folder / entry["path"]),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.get("disabled_optimizers", ())) or None,
        )
        given = (*self._session.get_inputs(), *self._session.get_overridable_initializers())
        self.dtypes = {found.name: _dtype(found.type) for found in given}
        names = [found.name for found in self._session.get_outputs()]
        self._outputs = job.get("outputs") or names[:1]

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference."""
        answer: Sequence[np.ndarray] = self._session.run(self._outputs, feed)
        return answer

    def end_profiling(self) -> str:
        """Give the path of the profile that ONNX Runtime wrote; for mode ``operators``."""
        path: str = self._session.end_profiling()
        return path


def _dtype(name: str) -> np.dtype[Any]:
    """Numpy's dtype for ONNX Runtime's ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


def open_onnx(entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> LoadedModel:
    """Open the job's `entry`; relative paths are below `folder`."""
    return Null() if entry["path"] is None else OnnxSession(entry, job, folder)


def import_onnxruntime() -> None:
    """Load the bare runtime, so that a model's memory can be told from it."""
    import onnxruntime  # noqa: F401


def cast(items: list[list[Feed]], model: LoadedModel) -> list[list[Feed]]:
    """Give the model just those inputs that it has, in its dtypes where it says them."""
    return [
        [
            {
                name: row[name] if kind is None else row[name].astype(kind, copy=False)
                for name, kind in model.dtypes.items()
                if name in row
            }
            for row in rows
        ]
        for rows in items
    ]
