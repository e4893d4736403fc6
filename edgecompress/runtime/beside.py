"""What stands beside every question to a bundle, where its task takes something there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgecompress.errors import DataError
from edgecompress.tasks import Task
from edgecompress.tasks.asking import read_question
from edgecompress.values import Json
from edgecompress.words import meant

Beside = Mapping[str, Any] | Sequence[str]


def read_beside(settings: Beside, task: Task) -> Json:
    """Read what stands beside every question: a mapping, or texts such as ``temperature=0.7``.

    Raises
    ------
    DataError
        When the task takes nothing of this name, or another value.
    """
    if isinstance(settings, Mapping):
        found = dict(settings)
    else:
        pairs = (one.partition("=") for one in settings)
        found = {key: _value(value) for key, _, value in pairs}
    known = {one.name: one for one in task.options}
    for key, value in found.items():
        if not known:
            raise DataError(f"{task.name} takes nothing beside a question; leave {key} out")
        if key not in known:
            raise DataError(f"{task.name} takes no {key!r} beside a question{meant(key, known)}")
        if not known[key].fits(value):
            raise DataError(f"{key} must be {known[key].what}")
    return found


def with_beside(question: Any, beside: Json, task: Task) -> Any:
    """Give a question with what stands beside it, where it does not say that itself.

    Raises
    ------
    DataError
        When it is none of the task's.
    """
    if not beside:
        return question
    if not isinstance(question, Mapping):
        question = read_question(question, task.forms, task.name)
    return {**beside, **question}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
