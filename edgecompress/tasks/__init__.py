"""The kinds of questions a model answers, one per file, found by the file's name."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil

from edgecompress.errors import DataError
from edgecompress.tasks.base import Answers, Encoded, Floor, Score, Task
from edgecompress.tasks.preprocessor import Preprocessor

__all__ = ["Answers", "Encoded", "Floor", "Preprocessor", "Score", "Task", "task", "task_names"]


@functools.cache
def _tasks() -> dict[str, Task]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, Task)
                and value.__module__ == module.__name__
                and not inspect.isabstract(value)
            ):
                found[value.name] = value()
    return found


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
