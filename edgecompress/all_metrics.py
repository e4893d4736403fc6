"""Every metric that is declared, by its name: those of all tasks, and those of machines."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

from edgecompress.errors import EdgeCompressError
from edgecompress.machine_metrics import MACHINES
from edgecompress.metrics import DIFFERENCES, Metric, undeclared
from edgecompress.tasks import task, task_names
from edgecompress.values import Measurement


@functools.cache
def metrics() -> Mapping[str, Metric]:
    """Give all metrics, in the order in which they are listed.

    The first metrics of all tasks come first, each with what is measured of it against teacher,
    floor and host; then the tasks' other metrics, errors last; then those of machines. Of several
    metrics of one name the first stands here.
    """
    declared = [_of_task(name) for name in task_names()]
    found: dict[str, Metric] = {}
    for first in (one[0] for one in declared):
        for one in (first, *map(first.difference, reversed(DIFFERENCES))):
            found.setdefault(one.name, one)
    others = [one for each in declared for one in each[1:]]
    for one in (*sorted(others, key=lambda one: not one.higher_is_better), *MACHINES):
        found.setdefault(one.name, one)
    return MappingProxyType(found)


def _of_task(name: str) -> tuple[Metric, ...]:
    found: tuple[Metric, ...] = getattr(task(name), "metrics", ())
    if not found:
        raise EdgeCompressError(f"the task {name!r} declares no metric; give it `metrics`")
    return found


def metric(name: str) -> Metric:
    """Find a metric by its name; one that nothing declares is made up from the name."""
    return metrics().get(name) or undeclared(name)


def is_failure(found: Measurement) -> bool:
    """Whether a measurement stands for all that an observer, whose name it has, did not give."""
    nothing = found.samples == 0 and math.isnan(found.value) and found.invalid is not None
    return nothing and found.metric not in metrics()


def bounded() -> tuple[Metric, ...]:
    """Give the metrics that a budget may name."""
    return tuple(one for one in metrics().values() if one.bounded)
