"""What a target is given (a job), what it gives back (readings), and what a target is.

A target is a machine that runs the agent. It judges nothing: `edgecompress.timing` makes
measurements of its readings, `edgecompress.targets.accuracy` of its answers.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edgecompress.disturbance import Loop
from edgecompress.timing import Series
from edgecompress.values import Example, Json, Model

Progress = Callable[[float, float, str], None]
Mode = Literal["time", "answers", "cold", "operators", "instructions"]


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
    seconds : tuple of float
        How long the sound of each example is, where it is one (`Task.seconds`); else empty.
    """

    arrays: dict[str, tuple[np.ndarray, ...]]
    items: np.ndarray
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """What takes examples to a model and its outputs to answers.

    Attributes
    ----------
    task : str
    classes : tuple of str
    inputs : tuple of str
        What the model takes.
    preprocessor : Path or None
        The processor's folder.
    """

    task: str
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    preprocessor: Path | None


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
        ``tokenizer.json``, to time the tokenization of the job's texts before each inference where
        no more can be done.
    max_length : int
        Most tokens that its tokenizer may give in a row.
    way : Way or None
        What makes rows of the job's examples and reads its outputs, to time that on this machine.
    """

    model: Model | None
    feeds: int = 0
    tokenizer: Path | None = None
    max_length: int = 512
    way: Way | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How to run and time: what a job has beside models and inputs.

    Attributes
    ----------
    threads : int
        ``intra_op_num_threads``.
    affinity : tuple of int
        Cores that the process is bound to; empty for those that it is given.
    arena : bool
        Whether ONNX Runtime keeps freed memory for itself (``enable_cpu_mem_arena``).
    warmup_ms, max_warmup_ms : float
        How long to run before readings count, and how much longer, at most, until they are
        stable.
    min_duration_ms, max_duration_ms : float
    min_count : int
        Rounds of the timing loop, each one inference of every model.
    cold_starts : int
        Fresh processes per model.
    """

    threads: int = 1
    affinity: tuple[int, ...] = ()
    arena: bool = True
    warmup_ms: float = 300.0
    max_warmup_ms: float = 3000.0
    min_duration_ms: float = 2000.0
    max_duration_ms: float = 60000.0
    min_count: int = 400
    cold_starts: int = 3

    def fields(self) -> Json:
        """Give its own fields by name, also those of a `Job`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Clock)}


@dataclass(frozen=True, slots=True)
class Job(Clock):
    """What a target is to do; every field is data, so that it can travel.

    Attributes
    ----------
    mode : {"time", "answers", "cold", "operators", "instructions"}
        Time all models interleaved; run every row once and give the outputs; measure loading,
        first inference and memory, each in a fresh process; time each operator; or count the
        instructions of an inference, under emulation.
    models : tuple of JobModel
    feeds : tuple of Feeds
    texts : tuple of str or of tuple of str
        Per item, what a tokenizer is given.
    examples : tuple of Example
        Per item, what a `Way` makes rows of; they stay on this machine.
    outputs : tuple of str
        Names of the outputs to give; empty for the first.
    timeout_s : float
        Longest silence of the agent before it counts as hung.
    energy : bool
        Mode ``time``: read the machine's energy meters around the loop.
    likelihoods : str
        Mode ``answers``: a column of the feeds that is no input, the right class at each place and
        a negative number where there is none. Of the first output only the log probability of that
        class and the likeliest class are given back, float64 (places, 2).
    """

    mode: Mode
    models: tuple[JobModel, ...]
    feeds: tuple[Feeds, ...]
    texts: tuple[str | tuple[str, ...], ...] = ()
    examples: tuple[Example, ...] = ()
    outputs: tuple[str, ...] = ()
    timeout_s: float = 900.0
    energy: bool = False
    likelihoods: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What a target gave back, raw.

    Attributes
    ----------
    loop : Loop or None
        Mode ``time``: what surrounded the readings.
    series : tuple of Series
        Mode ``time``: the inferences of each model.
    around : tuple of (Series or None)
        Mode ``time``: what was done before and behind each inference, where it was asked for.
    covers : tuple of (str or None)
        Mode ``time``: what that and the inference are together, such as ``tokenizer, model``.
    cold : tuple of tuple of dict
        Mode ``cold``: for each model one reading per fresh process, as
        `edgecompress.targets.agent.modes` gives it, and whether the machine is ``emulated``.
    outputs : tuple of tuple of list of ndarray
        Mode ``answers``: for each model and output one array per row.
    operators, instructions : tuple of dict
        Modes ``operators`` and ``instructions``: what the agent found for each model.
    machine : dict
        Load, frequency, governor, temperature ``before`` and ``after``.
    warmup : dict
        Mode ``time``: ``ms``, ``rounds`` and whether they were ``stable`` at the end.
    energy : dict
        Mode ``time`` with `Job.energy`: ``start_s`` and ``end_s`` of the loop (epoch) and, by
        name, what each ``meters`` entry counted.
    asked_s : tuple of float
        When the job began and ended by this machine's clock (epoch).
    """

    loop: Loop | None = None
    series: tuple[Series, ...] = ()
    around: tuple[Series | None, ...] = ()
    covers: tuple[str | None, ...] = ()
    cold: tuple[tuple[Json, ...], ...] = ()
    outputs: tuple[tuple[list[np.ndarray], ...], ...] = ()
    operators: tuple[Json, ...] = ()
    instructions: tuple[Json, ...] = ()
    machine: Json = field(default_factory=dict)
    warmup: Json = field(default_factory=dict)
    energy: Json = field(default_factory=dict)
    asked_s: tuple[float, float] = (0.0, 0.0)


class Target(Protocol):
    """A machine that measures."""

    @property
    def name(self) -> str:
        """As recipes and measurements write it: ``local``."""
        ...

    @property
    def metrics(self) -> frozenset[str]:
        """What it can measure, of ``latency memory answers energy instructions``."""
        ...

    @property
    def samples(self) -> int | None:
        """How many examples it is asked to judge its accuracy; None for all."""
        ...

    @property
    def on_host(self) -> bool:
        """Whether it runs on this machine's cores, so that nothing else may meanwhile."""
        ...

    def describe(self) -> Json:
        """Say what the machine is, as `edgecompress.targets.agent.describe` does there."""
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

    def close(self) -> None:
        """End what is kept open between jobs; a later job opens it again."""
        ...


class Launcher(Protocol):
    """How a target gets files and runs the agent on them; see `edgecompress.targets.running`."""

    @property
    def name(self) -> str:
        """The target's name, for messages."""
        ...

    @property
    def emulated(self) -> bool:
        """Whether wall time means nothing there."""
        ...

    def carry(self, files: tuple[Path, ...], progress: Progress | None) -> str:
        """Have `files` at the target, together in one folder; give the path of the first there.

        The first is the graph or the tokenizer, the others are its external data. `progress` is
        told how far their sending is.
        """
        ...

    def launch(self, folder: Path, job: Job, progress: Progress | None) -> None:
        """Run the agent on `folder` in one fresh process; what it wrote is there afterwards.

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


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
