"""The kinds of questions a model answers, one per file; another's by an entry point.

Entry points of the group ``edgecompress.tasks`` name a `Task` each.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from edgecompress.discovery import found_classes
from edgecompress.errors import DataError
from edgecompress.processors import Processor, TextProcessor, processor_class
from edgecompress.provenance import code_digest
from edgecompress.tables import Need, Wanted
from edgecompress.tasks.answers import Answer, Answers, Score
from edgecompress.tasks.asking import TEXT, TEXT_PAIR, WORDS
from edgecompress.tasks.base import Floor, Task
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.taught import Output
from edgecompress.values import Candidate, Example
from edgecompress.words import meant

__all__ = [
    "GROUP",
    "Answer",
    "Answers",
    "Floor",
    "Output",
    "Row",
    "Rows",
    "Score",
    "Task",
    "foreign_code",
    "lacks_files",
    "load_processor",
    "needed_extra",
    "rows_of",
    "sample_question",
    "takes_examples",
    "task",
    "task_names",
    "wanted",
]

GROUP = "edgecompress.tasks"


@functools.cache
def _tasks() -> dict[str, Task]:
    classes = found_classes(__name__, __path__, Task, GROUP, lambda one: one.name)  # type: ignore[type-abstract]
    return {name: one() for name, one in classes.items()}


def foreign_code(name: str | None) -> str | None:
    """Give the digest of a task's code where it is another's: ours is found by its imports."""
    if name is None:
        return None
    module = type(task(name)).__module__
    return None if module.startswith(f"{__name__}.") else code_digest(module)


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
        called = {one: kind.also_called for one, kind in _tasks().items()}
        raise DataError(f"unknown task {name!r}{meant(name, called, called)}")
    return found


def unanswered(architecture: str) -> str:
    """Say what models of a class do that no task does yet; empty where nothing is known of them."""
    kinds = [one for one in map(task, task_names()) if one.in_parts]
    classes = [name for one in kinds for name in one.architectures]
    endings = ("ForConditionalGeneration", "MTModel")
    if architecture.endswith(tuple(classes)) or not architecture.endswith(endings):
        return ""
    known = ", ".join(classes)
    return (
        f"{architecture} writes a text for what it is given, and such models can be worked on only "
        f"where they are of these: {known}"
    )


def wanted(asked: Task, *, answers: Need = "needed") -> Wanted:
    """Say what a record of data must hold for a task."""
    forms = asked.records or asked.forms
    if not forms:
        return Wanted(answers="ignored")
    fields = {field.name: field for form in forms for field in form}
    return Wanted(
        tuple(tuple(field.name for field in form) for form in forms),
        asked.target,
        answers if asked.labelled else asked.answers,
        {
            name: (field.what, field.fits, field.from_file)
            for name, field in fields.items()
            if name not in (TEXT.name, TEXT_PAIR.name, WORDS.name)
        },
        asked.finished,
    )


def load_processor(name: str, directory: Path | None) -> Processor:
    """Read the processor of a model of the task `name` from its folder, where it has one.

    Raises
    ------
    DataError
        When there is no such task, or a file is missing or damaged.
    """
    return processor_class(task(name).processor).load(directory)


def lacks_files(name: str, preprocessor: object) -> bool:
    """Say whether the processor of the task `name` needs files and has none."""
    return preprocessor is None and processor_class(task(name).processor).needs_files


def needed_extra(name: str | None) -> str:
    """Name the extra that a device needs to answer the task `name`; empty for the base install."""
    found = _tasks().get(name or "")
    return "" if found is None else processor_class(found.processor).extra


def sample_question(name: str | None) -> str:
    """Give what a model of the task `name` may be asked on a command line."""
    found = _tasks().get(name or "")
    if found is None or issubclass(processor_class(found.processor), TextProcessor):
        return "some text"
    return found.sample


def takes_examples(candidate: Candidate) -> bool:
    """Say whether examples can be turned into rows for a candidate: by its task and its files."""
    return candidate.task is not None and not lacks_files(candidate.task, candidate.preprocessor)


def rows_of(candidate: Candidate, examples: Sequence[Example]) -> Rows:
    """Make rows of examples as a candidate's task and processor do.

    Raises
    ------
    DataError
        When it has none, or an example holds a label that the candidate lacks.
    """
    if not takes_examples(candidate) or candidate.task is None:
        raise DataError(
            "the model has no task or tokenizer, so that examples cannot be encoded for it; "
            "name `task` and give the tokenizer's files"
        )
    processor = load_processor(candidate.task, candidate.preprocessor)
    return task(candidate.task).rows(examples, processor, candidate.labels)
