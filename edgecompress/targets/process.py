"""The agent as a child process of this machine: its progress, silence and cause of death."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets.base import Job, Progress
from edgecompress.values import TorchModel


def agent_environment(job: Job) -> dict[str, str]:
    """Give the environment variables that the agent of `job` needs, wherever it runs."""
    found = {
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(job.threads),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    mixed = any(isinstance(entry.model, TorchModel) for entry in job.models)
    if job.mode == "answers" or mixed:
        found["OMP_WAIT_POLICY"] = "PASSIVE"  # torch's idle threads must leave their cores
    return found


def run_agent(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    job: Job,
    name: str,
    progress: Progress | None,
) -> None:
    """Run the agent; whatever ends this function ends the agent too.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Laid over this process's own and over `agent_environment`.
    folder : Path
        The job's; standard error goes to ``stderr.txt`` there.
    job : Job
    name : str
        The target's, for messages.
    progress : callable, optional

    Raises
    ------
    TargetError
        With the last line that the agent wrote to its standard error.
    """
    full = {**os.environ, **agent_environment(job), "EDGECOMPRESS_DIE_WITH_PARENT": "1"}
    full |= environment
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    errors = folder / "stderr.txt"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=full,
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
                tell(line, job, progress)
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
        said = errors.read_text(encoding="utf-8", errors="replace")
        raise TargetError(f"{name}: {cause(status, said)}")


def tell(line: str, job: Job, progress: Progress | None) -> None:
    """Pass a line of the agent's standard output on, where it is about progress."""
    if progress is None or not line.startswith("{"):
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):  # a library printed something
        said = json.loads(line)
        what = said.get("what") or {"time": "timing", "answers": "answering"}.get(job.mode, "")
        progress(float(said["done"]), float(said["total"]), what)


def cause(status: int, errors: str) -> str:
    """Say in one line why the agent failed.

    Parameters
    ----------
    status : int
        Exit status; negative for a signal.
    errors : str
        What it wrote to standard error.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    last = lines[-1][:500] if lines else ""
    last = re.sub(r"^[\w.]+: \[ONNXRuntimeError\] : \d+ : \w+ : ", "ONNX Runtime: ", last)
    if "indices element out of data bounds" in last:
        last += "; keep the inputs' values below the table's size (--bound NAME=N)"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = "; memory may have run out" if name == "SIGKILL" else ""
        return f"the agent was ended by {name}{hint}{': ' + last if last else ''}"
    return f"the agent failed: {last or f'exit status {status} without a word'}"
