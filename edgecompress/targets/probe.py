"""One question to a target: the job that asks it, and the measurements that its readings give.

Cold starts, batches, operators, energy and instructions are a `Probe` each; they differ in their
inputs, in the job, and in how its readings are read.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from edgecompress.disturbance import RULES, Loop, Rules
from edgecompress.errors import TargetError
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Mode, Progress, Readings, Target
from edgecompress.targets.inputs import InputSettings, timing_feeds
from edgecompress.values import Candidate, Example, Measurement, Model, OnnxModel, TorchModel
from edgecompress.writing import temporary

NOT_GIVEN = InputSettings()


@dataclass(frozen=True, eq=False)
class Probe(ABC):
    """What a candidate is asked on a target.

    Parameters
    ----------
    candidate : Candidate
    examples : sequence of Example
        Where the inputs' lengths come from.
    clock : Clock
    target : Target
    inputs : InputSettings
        What to feed instead of examples.
    rules : Rules
        When a reading must not be trusted.
    progress : callable, optional

    Attributes
    ----------
    mode : str
        What the agent does.
    needs : str
        Which of `Target.metrics` it takes.
    accepts : tuple of type
        The kinds of models that can be asked.
    count : int
        Most examples that are taken.
    """

    candidate: Candidate
    examples: Sequence[Example]
    clock: Clock
    target: Target
    inputs: InputSettings = NOT_GIVEN
    rules: Rules = RULES
    progress: Progress | None = None

    mode: ClassVar[Mode] = "time"
    needs: ClassVar[str] = "latency"
    accepts: ClassVar[tuple[type[Model], ...]] = (OnnxModel, TorchModel)
    count: ClassVar[int] = 16

    def measure(self) -> tuple[Measurement, ...]:
        """Ask, and read the answer.

        Raises
        ------
        TargetError
            When the target cannot be reached, or the model cannot be loaded or run there.
        DataError
            When the model cannot be given inputs.
        """
        feeds, source = self.feeds()
        return self.read(ask(self.target, self.job(feeds), self.progress), feeds, source)

    def feeds(self) -> tuple[Feeds, str]:
        """Give the inputs, and where they come from (`InputSettings.source`)."""
        feeds, timed = timing_feeds([self.candidate], self.examples, self.count, self.inputs)
        return feeds[0], self.inputs.source(timed)

    def job(self, feeds: Feeds) -> Job:
        """Make the job."""
        return Job(self.mode, (JobModel(self.candidate.model),), (feeds,), **self.clock.fields())

    @abstractmethod
    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Make measurements of what the target gave back."""


def ask(target: Target, job: Job, progress: Progress | None) -> Readings:
    """Run `job` in a folder that is thrown away.

    Raises
    ------
    TargetError
        When the target cannot be reached, or the agent fails or falls silent.
    """
    began_s = time.time()
    with temporary() as folder:
        readings = target.run(job, folder, progress)
    return replace(readings, asked_s=(began_s, time.time()))


def loop_of(readings: Readings, target: str) -> Loop:
    """Give what surrounded a timing loop.

    Raises
    ------
    TargetError
        When there was none.
    """
    if readings.loop is None:
        raise TargetError(f"{target}: the readings hold no timing loop")
    return readings.loop
