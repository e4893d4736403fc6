"""What a target is given (a job), what it gives back (readings), and the job's files.

A target is a machine that runs the agent. It judges nothing: `edgecompress.timing` makes
measurements of its readings, `edgecompress.targets.accuracy` of its answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edgecompress.disturbance import Loop, loop_from_states
from edgecompress.errors import TargetError
from edgecompress.targets import agent
from edgecompress.timing import Series
from edgecompress.values import Json, Model, OnnxModel, SessionSettings, TorchModel

Progress = Callable[[float, float, str], None]
Mode = Literal["time", "answers", "cold"]


@dataclass(frozen=True, slots=True, eq=False)
class Feeds:
    """Encoded inputs, packed as the agent reads them.

    Attributes
    ----------
    arrays : dict of str to tuple of ndarray
        For each input of the graph one array per row, batch axis included, such as
        ``input_ids`` int64 (1, length).
    items : ndarray of int64, shape (rows,)
        The example that each row belongs to, from 0, rising.
    """

    arrays: dict[str, tuple[np.ndarray, ...]]
    items: np.ndarray


@dataclass(frozen=True, slots=True)
class JobModel:
    """One model of a job.

    Attributes
    ----------
    model : OnnxModel, TorchModel or None
        None is the model that does nothing.
    feeds : int
        Which of the job's feeds it is given.
    tokenizer : Path or None
        ``tokenizer.json``, to time the tokenization of the job's texts before each inference.
    max_length : int
        Most tokens that its tokenizer may give in a row.
    """

    model: Model | None
    feeds: int = 0
    tokenizer: Path | None = None
    max_length: int = 512


@dataclass(frozen=True, slots=True)
class Job:
    """What a target is to do; every field is data, so that it can travel.

    Attributes
    ----------
    mode : {"time", "answers", "cold"}
        Time all models interleaved; run every row once and give the outputs; or measure loading,
        first inference and memory, each in a fresh process.
    models : tuple of JobModel
    feeds : tuple of Feeds
    texts : tuple of str or of tuple of str
        Per item, what a tokenizer is given.
    threads : int
        ``intra_op_num_threads``.
    warmup_ms, min_duration_ms, max_duration_ms : float
    min_count : int
        Rounds of the timing loop, each one inference of every model.
    cold_starts : int
        Fresh processes per model.
    outputs : tuple of str
        Names of the outputs to give; empty for the first.
    timeout_s : float
        Longest silence of the agent before it counts as hung.
    """

    mode: Mode
    models: tuple[JobModel, ...]
    feeds: tuple[Feeds, ...]
    texts: tuple[str | tuple[str, ...], ...] = ()
    threads: int = 1
    warmup_ms: float = 300.0
    min_duration_ms: float = 2000.0
    max_duration_ms: float = 60000.0
    min_count: int = 400
    cold_starts: int = 3
    outputs: tuple[str, ...] = ()
    timeout_s: float = 900.0


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What a target gave back, raw.

    Attributes
    ----------
    loop : Loop or None
        Mode ``time``: what surrounded the readings.
    series : tuple of Series
        Mode ``time``: the inferences of each model.
    tokenize : tuple of (Series or None)
        Mode ``time``: the tokenization before each inference, where it was asked for.
    cold : tuple of tuple of dict
        Mode ``cold``: for each model one reading per fresh process, with ``load_ns``,
        ``first_ns``, ``bare_bytes``, ``peak_bytes`` and ``memory_source``.
    outputs : tuple of tuple of list of ndarray
        Mode ``answers``: for each model and output one array per row.
    machine : dict
        Load, frequency, governor, temperature before and after.
    """

    loop: Loop | None = None
    series: tuple[Series, ...] = ()
    tokenize: tuple[Series | None, ...] = ()
    cold: tuple[tuple[Json, ...], ...] = ()
    outputs: tuple[tuple[list[np.ndarray], ...], ...] = ()
    machine: Json = field(default_factory=dict)


class Target(Protocol):
    """A machine that measures."""

    @property
    def name(self) -> str:
        """As recipes and measurements write it: ``local``."""
        ...

    @property
    def metrics(self) -> frozenset[str]:
        """What it can measure, of ``latency``, ``memory`` and ``answers``."""
        ...

    def fingerprint(self) -> str:
        """Digest of what its readings depend on beside the job: machine and library versions."""
        ...

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        """Run `job`; `folder` is empty and may be thrown away afterwards.

        Raises
        ------
        TargetError
            When it cannot be reached, or the agent fails or falls silent.
        """
        ...


def feeds_from_rows(rows: Sequence[dict[str, np.ndarray]], items: Sequence[int]) -> Feeds:
    """Gather feeds of single rows into `Feeds`."""
    names = list(rows[0]) if rows else []
    return Feeds(
        {name: tuple(np.asarray(row[name]) for row in rows) for name in names},
        np.asarray(items, dtype=np.int64),
    )


def write_job(job: Job, folder: Path, models: Sequence[JobModel] | None = None) -> None:
    """Write ``job.json`` and ``inputs.npz`` for the agent into `folder`.

    Parameters
    ----------
    job : Job
    folder : Path
    models : sequence of JobModel, optional
        Instead of the job's own, such as one of them for a cold start.
    """
    document = {
        "mode": job.mode,
        "threads": job.threads,
        "outputs": list(job.outputs) or None,
        "warmup_ms": job.warmup_ms,
        "min_duration_ms": job.min_duration_ms,
        "max_duration_ms": job.max_duration_ms,
        "min_count": job.min_count,
        "texts": [text if isinstance(text, str) else list(text) for text in job.texts],
        "models": [_entry(model) for model in (job.models if models is None else models)],
    }
    arrays: dict[str, np.ndarray] = {}
    for index, feeds in enumerate(job.feeds):
        arrays[f"{index}/items"] = feeds.items
        for name, rows in feeds.arrays.items():
            arrays |= agent.pack(f"{index}/{name}", rows)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    (folder / "job.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _entry(entry: JobModel) -> Json:
    model = entry.model
    path, kind = None, "null"
    if isinstance(model, OnnxModel):
        path, kind = model.path, "onnx"
    elif isinstance(model, TorchModel):
        path, kind = model.directory, "torch"
    tokenizer = None
    if entry.tokenizer is not None:
        tokenizer = {"path": str(entry.tokenizer.resolve()), "max_length": entry.max_length}
    return {
        "path": None if path is None else str(path.resolve()),
        "kind": kind,
        "feeds": entry.feeds,
        "session": asdict(model.session if isinstance(model, OnnxModel) else SessionSettings()),
        "tokenizer": tokenizer,
    }


def read_readings(job: Job, folder: Path, target: str) -> Readings:
    """Read back what the agent left in `folder` (mode ``time`` or ``answers``).

    Raises
    ------
    TargetError
        When the files are missing or damaged.
    """
    try:
        document = json.loads((folder / "readings.json").read_text(encoding="utf-8"))
        if job.mode == "answers":
            outputs = tuple(
                _outputs(folder / f"outputs-{index}.npz") for index in range(len(job.models))
            )
            return Readings(outputs=outputs)
        found = document["time"]
        items = np.array(found["items"], dtype=np.int64)
        loop = loop_from_states(
            found["before"],
            found["after"],
            duration_ms=found["duration_ms"],
            wanted_ms=job.min_duration_ms,
            threads=job.threads,
            cores=found["before"]["cores"],
        )
        return Readings(
            loop=loop,
            series=tuple(Series(np.array(ns, dtype=np.int64), items) for ns in found["ns"]),
            tokenize=tuple(
                None if ns is None else Series(np.array(ns, dtype=np.int64), items)
                for ns in found["tokenize_ns"]
            ),
            machine={"before": found["before"], "after": found["after"]},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{target}: the agent's readings are damaged ({error})") from None


def _outputs(file: Path) -> tuple[list[np.ndarray], ...]:
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    count = sum(name.endswith("/shapes") for name in arrays)
    return tuple(agent.unpack(str(index), arrays) for index in range(count))


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
