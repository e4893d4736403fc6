"""A job on a target: files written, the agent launched as the mode needs, readings read."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from edgecompress.targets.base import Job, Launcher, Progress, Readings
from edgecompress.targets.jobs import read_readings, write_job

ALONE = {"cold": "cold starts", "instructions": "counting instructions"}
"""Modes in which each model has processes of its own, as what ran before would show; what is told
of each process."""


def run_job(job: Job, folder: Path, launcher: Launcher, progress: Progress | None) -> Readings:
    """Run `job` with `launcher` in `folder`, which is empty.

    Raises
    ------
    TargetError
        When the target cannot be reached, the agent fails or falls silent, or its readings are
        damaged.
    """

    def once(job: Job, folder: Path, tell: Progress | None) -> Readings:
        write_job(job, folder, partial(launcher.carry, progress=progress))
        launcher.launch(folder, job, tell)
        return read_readings(job, folder, launcher.name, emulated=launcher.emulated)

    if job.mode not in ALONE:
        return once(job, folder, progress)
    starts = job.cold_starts if job.mode == "cold" else 1
    found: list[list[Readings]] = []
    for index, model in enumerate(job.models):
        alone = replace(job, feeds=(job.feeds[model.feeds],), models=(replace(model, feeds=0),))
        found.append([])
        for start in range(starts):
            found[-1].append(once(alone, folder / f"{index}-{start}", None))
            if progress is not None:
                progress(index * starts + start + 1, len(job.models) * starts, ALONE[job.mode])
    if job.mode == "cold":
        return Readings(cold=tuple(tuple(one.cold[0][0] for one in each) for each in found))
    return Readings(instructions=tuple(each[0].instructions[0] for each in found))
