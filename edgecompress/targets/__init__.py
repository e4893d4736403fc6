"""Where models are measured: this machine, boards, emulated processors, and what others bring."""

from __future__ import annotations

from edgecompress.targets.base import Job, JobModel, Launcher, Readings, Target
from edgecompress.targets.kinds import named_by_url
from edgecompress.targets.spec import TargetFinding, TargetReport, TargetSpec, report_of

__all__ = [
    "Job",
    "JobModel",
    "Launcher",
    "Readings",
    "Target",
    "TargetFinding",
    "TargetReport",
    "TargetSpec",
    "open_target",
    "report_of",
]


def open_target(spec: TargetSpec | str) -> Target:
    """Give the target that a specification or a URL means; nothing is connected to yet.

    Raises
    ------
    RecipeError
        When there is no such target.
    """
    return (named_by_url(spec) if isinstance(spec, str) else spec).open()
