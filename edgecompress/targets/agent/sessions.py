"""Models as the agent runs them: a function from one row of inputs to outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by onnxruntime when it is imported

import numpy as np

from edgecompress.targets.agent.arrays import Feed

IN_PLACE, TOKENS_AXIS = "edgecompress.states_in_place", 2
"""As `edgecompress.generation.states` says: which this file, sent to boards, cannot import."""


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
        shared = IN_PLACE in self._session.get_modelmeta().custom_metadata_map
        past = [name for name in self.dtypes if name.startswith("past_key_values.") and shared]
        self._kept = {name: f"present.{name.partition('.')[2]}" for name in past}
        self._states: dict[str, Any] = {}
        self._bound: tuple[Feed, Any] | None = None

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference. States of no tokens are kept here, in place, where the graph can."""
        if self._kept and not any(feed[name].shape[TOKENS_AXIS] for name in self._kept):
            return self._in_place(feed)
        answer: Sequence[np.ndarray] = self._session.run(self._outputs, feed)
        return answer

    def _in_place(self, feed: Feed) -> list[np.ndarray]:
        if self._bound is None or self._bound[0] is not feed:
            self._bound = feed, self._binding(feed)
        binding = self._bound[1]
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()[len(self._kept) :]]

    def _binding(self, feed: Feed) -> Any:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        batch, room = feed["attention_mask"].shape
        for name, array in feed.items():
            value = self._states.get(name)
            if name not in self._kept:
                value = OrtValue.ortvalue_from_numpy(array)
            elif value is None or value.shape()[0] != batch or value.shape()[TOKENS_AXIS] < room:
                shape = (batch, array.shape[1], room, *array.shape[TOKENS_AXIS + 1 :])
                value = OrtValue.ortvalue_from_numpy(np.zeros(shape, array.dtype))
                self._states[name] = value
            binding.bind_ortvalue_input(name, value)
            if name in self._kept:
                binding.bind_ortvalue_output(self._kept[name], value)
        return binding

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
