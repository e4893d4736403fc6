"""The agent's loop for PyTorch models, in a fresh process of the host.

``python -m edgecompress.targets.torch_worker FOLDER`` does a job whose models may be PyTorch ones;
ONNX models beside them run in ONNX Runtime, so that teacher and reference are timed interleaved in
one process too. A thread pool that spins after its work would take the other's cores: torch's is
told to wait passively, ONNX Runtime's to stop at the end of each run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.collecting import collect_rarely
from edgecompress.targets.agent import sessions
from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.agent.modes import run_job
from edgecompress.targets.whole_way import whole_way


class TorchModule:
    """A PyTorch model in evaluation mode that takes and gives numpy arrays."""

    def __init__(self, entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> None:
        import inspect

        import torch

        from edgecompress.surgery.model import load_module
        from edgecompress.values import TorchModel

        torch.set_num_threads(job["threads"])
        self._torch = torch
        self._module = load_module(TorchModel(folder / entry["path"]))
        self._outputs = tuple(job.get("outputs") or ())
        known = inspect.signature(self._module.forward).parameters
        self.dtypes: dict[str, np.dtype[Any] | None] = dict.fromkeys(known)

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference."""
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(value) for name, value in feed.items()}
            answer = self._module(**tensors)
            names = self._outputs or tuple(answer)[:1]
            return [answer[name].numpy() for name in names]


def open_any(
    entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path
) -> sessions.LoadedModel:
    """Open a PyTorch model, or an ONNX one beside it."""
    if entry["kind"] == "torch":
        return TorchModule(entry, job, folder)
    if entry["path"] is None:
        return sessions.Null()
    session = dict(entry["session"])
    session["config_entries"] = [
        *session["config_entries"],
        ("session.force_spinning_stop", "1"),
    ]
    return sessions.OnnxSession({**entry, "session": session}, job, folder)


def import_torch() -> None:
    """Load the bare runtime, so that a model's memory can be told from it."""
    import torch  # noqa: F401
    import transformers  # noqa: F401


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgecompress.targets.torch_worker FOLDER")
    collect_rarely()
    run_job(Path(sys.argv[1]), open_any, import_torch, whole_way)
