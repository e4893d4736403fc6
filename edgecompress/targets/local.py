"""The machine that runs edgecompress as a target: the agent in a fresh process, one at a time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgecompress.targets import machine
from edgecompress.targets.agent import energy
from edgecompress.targets.archive import agent_archive
from edgecompress.targets.base import Job, Progress, Readings
from edgecompress.targets.process import run_agent
from edgecompress.targets.running import run_job
from edgecompress.targets.spec import TargetFields
from edgecompress.targets.whole_way import keep_examples
from edgecompress.values import Json, TorchModel

_TORCH, _WHOLE = "edgecompress.targets.torch_worker", "edgecompress.targets.whole_way"
TELL_S = 5.0
"""Between two words about waiting for another timing."""


@contextlib.contextmanager
def machine_lock(progress: Progress | None = None) -> Iterator[None]:
    """Hold this machine for a timing; waits for any other edgecompress process of this user.

    Parameters
    ----------
    progress : callable, optional
        Told now and then that this is waited for.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(machine.cache_folder() / "timing.lock")
    while True:
        try:
            lock.acquire(timeout=TELL_S)
            break
        except Timeout:
            if progress is not None:
                progress(0.0, 1.0, "waiting for another timing on this machine")
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class Local:
    """The host itself: ONNX models run in the agent, PyTorch models in the torch worker."""

    name: str = "local"
    metrics: frozenset[str] = frozenset({"latency", "memory", "answers", "energy"})
    samples: int | None = None
    on_host: bool = True
    emulated: bool = False
    spec: TargetFields | None = field(default=None, compare=False)

    def describe(self) -> Json:
        """Describe this machine; meters as they are now."""
        return {**machine.environment(), "meters": energy.meters()}

    def fingerprint(self) -> str:
        """Digest of this machine and of its library versions."""
        return machine.fingerprint()

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        """Run `job` in fresh processes of this Python; timing holds the machine's lock."""
        if job.mode == "answers":
            return run_job(job, folder, self, progress)
        with machine_lock(progress):
            return run_job(job, folder, self, progress)

    def carry(self, files: tuple[Path, ...], progress: Progress | None) -> str:  # noqa: ARG002
        """Give the path of the first of `files`, which are here already."""
        return str(files[0].absolute())  # a link's target may lack the external data

    def launch(self, folder: Path, job: Job, progress: Progress | None) -> None:
        """Run the agent; its loop in a process of ours for a PyTorch model or the whole way."""
        torch = any(isinstance(entry.model, TorchModel) for entry in job.models)
        command = [sys.executable, "-P", str(agent_archive()), str(folder)]
        if torch or job.examples:
            command = [sys.executable, "-P", "-m", _TORCH if torch else _WHOLE, str(folder)]
        if job.examples:
            keep_examples(job, folder)
        run_agent(command, {}, folder, job, self.name, progress)

    def close(self) -> None:
        """Nothing is kept open."""
