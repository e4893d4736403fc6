"""The kinds of questions a model answers, one per file; another's by an entry point.

Entry points of the group ``edgecompress.tasks`` name a `Task` each.
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path

from edgecompress.discovery import found_classes
from edgecompress.errors import DataError
from edgecompress.processors import Processor, processor_class
from edgecompress.tasks.base import Answers, Floor, Score, Task
from edgecompress.tasks.rows import Row, Rows

__all__ = [
    "GROUP",
    "Answers",
    "Floor",
    "Row",
    "Rows",
    "Score",
    "Task",
    "load_processor",
    "task",
    "task_names",
]

GROUP = "edgecompress.tasks"


@functools.cache
def _tasks() -> dict[str, Task]:
    classes = found_classes(__name__, __path__, Task, GROUP, lambda one: one.name)  # type: ignore[type-abstract]
    return {name: one() for name, one in classes.items()}


def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(sorted(_tasks()))


def task(name: str) -> Task:
    """Find the task `name`, such as ``token-classification``.

    Raises
    ------
    DataError
        When there is none; the text names the nearest one, or all.
    """
    found = _tasks().get(name)
    if found is None:
        near = difflib.get_close_matches(name, task_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(task_names())}"
        raise DataError(f"unknown task {name!r}; {hint}")
    return found


def load_processor(name: str, directory: Path) -> Processor:
    """Read the processor of a model of the task `name` from its folder.

    Raises
    ------
    DataError
        When there is no such task, or a file is missing or damaged.
    """
    return processor_class(task(name).processor).load(directory)
