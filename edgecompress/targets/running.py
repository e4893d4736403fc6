"""A job on a target: files written, the agent launched as the mode needs, readings read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgecompress.targets.base import Job, Launcher, Progress, Readings
from edgecompress.targets.jobs import read_readings, write_job


def run_job(job: Job, folder: Path, launcher: Launcher, progress: Progress | None) -> Readings:
    """Run `job` with `launcher` in `folder`, which is empty.

    Raises
    ------
    TargetError
        When the target cannot be reached, the agent fails or falls silent, or its readings are
        damaged.
    """
    if job.mode != "cold":
        return _once(job, folder, launcher, progress)
    found = []
    total = len(job.models) * job.cold_starts
    for index, model in enumerate(job.models):
        alone = replace(job, feeds=(job.feeds[model.feeds],), models=(replace(model, feeds=0),))
        starts = []
        for start in range(job.cold_starts):
            readings = _once(alone, folder / f"{index}-{start}", launcher, None)
            starts.append(readings.cold[0][0])
            if progress is not None:
                progress(index * job.cold_starts + start + 1, total, "cold starts")
        found.append(tuple(starts))
    return Readings(cold=tuple(found))


def _once(job: Job, folder: Path, launcher: Launcher, progress: Progress | None) -> Readings:
    write_job(job, folder, launcher.carry)
    launcher.launch(folder, job, progress)
    return read_readings(job, folder, launcher.name, emulated=launcher.emulated)
