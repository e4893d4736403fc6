"""The machine that runs edgecompress as a target: the agent in a fresh process, one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets import agent, machine
from edgecompress.targets.base import Job, JobModel, Progress, Readings, read_readings, write_job
from edgecompress.values import TorchModel


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Hold this machine for a timing; waits for any other edgecompress process of this user."""
    import platformdirs
    from filelock import FileLock

    folder = platformdirs.user_cache_path("edgecompress")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:  # no home, or one that cannot be written
        folder = Path(tempfile.gettempdir()) / f"edgecompress-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "timing.lock"):
        yield


@dataclass(frozen=True, slots=True)
class Local:
    """The host itself: ONNX models run in the agent, PyTorch models in the torch worker."""

    name: str = "local"
    metrics: frozenset[str] = frozenset({"latency", "memory", "answers"})

    def fingerprint(self) -> str:
        """Digest of this machine and of its library versions."""
        return machine.fingerprint()

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        """Run `job` in fresh processes of this Python; timing holds the machine's lock."""
        if job.mode == "answers":
            return self._once(job, folder, progress)
        with machine_lock():
            return self._cold(job, folder) if job.mode == "cold" else self._once(
                job, folder, progress
            )  # fmt: skip

    def _once(self, job: Job, folder: Path, progress: Progress | None) -> Readings:
        write_job(job, folder)
        _launch(_command(job.models, folder), job, folder, self.name, progress)
        return read_readings(job, folder, self.name)

    def _cold(self, job: Job, folder: Path) -> Readings:
        found = []
        for index, model in enumerate(job.models):
            alone = replace(job, feeds=(job.feeds[model.feeds],), models=(replace(model, feeds=0),))
            starts = []
            for start in range(job.cold_starts):
                place = folder / f"{index}-{start}"
                write_job(alone, place)
                _launch(_command(alone.models, place), alone, place, self.name, None)
                document = json.loads((place / "readings.json").read_text(encoding="utf-8"))
                starts.append(document["cold"])
            found.append(tuple(starts))
        return Readings(cold=tuple(found))


def _command(models: Sequence[JobModel], folder: Path) -> list[str]:
    if any(isinstance(entry.model, TorchModel) for entry in models):
        return [sys.executable, "-m", "edgecompress.targets.torch_worker", str(folder)]
    # -P: the agent's own folder must not shadow modules that numpy or onnxruntime import.
    return [sys.executable, "-P", str(agent.__file__), str(folder)]


def _launch(
    command: Sequence[str], job: Job, folder: Path, name: str, progress: Progress | None
) -> None:
    """Run the agent; whatever ends this function ends the agent too.

    Raises
    ------
    TargetError
        With the last line that the agent wrote to its standard error.
    """
    environment = os.environ | {
        "ORT_DISABLE_TELEMETRY": "1",
        "EDGECOMPRESS_DIE_WITH_PARENT": "1",
        "OMP_NUM_THREADS": str(job.threads),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if job.mode == "answers" or len({type(entry.model) for entry in job.models}) > 1:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"  # torch's idle threads must leave their cores
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    errors = folder / "stderr.txt"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for

        def pump(stream: Iterator[str]) -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=pump, args=(iter(process.stdout),), daemon=True)
        reader.start()
        try:
            while (line := lines.get(timeout=job.timeout_s)) is not None:
                _tell(line, job, progress)
            status = process.wait()
        except queue.Empty:
            raise TargetError(
                f"{name}: the agent said nothing for {job.timeout_s:g} s and was ended"
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()
    if status:
        raise TargetError(f"{name}: {_cause(status, errors)}")


def _tell(line: str, job: Job, progress: Progress | None) -> None:
    if progress is None or not line.startswith("{"):
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):  # a library printed something
        said = json.loads(line)
        what = "timing" if job.mode == "time" else "answering"
        progress(float(said["done"]), float(said["total"]), what)


def _cause(status: int, errors: Path) -> str:
    """Say in one line why the agent failed."""
    lines = [
        line.strip()
        for line in errors.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    last = lines[-1][:500] if lines else ""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = "; memory may have run out" if name == "SIGKILL" else ""
        return f"the agent was ended by {name}{hint}{': ' + last if last else ''}"
    return f"the agent failed: {last or f'exit status {status} without a word'}"
