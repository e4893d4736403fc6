"""How a person asks: what a question may hold, read from JSON and checked in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.values import Json


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a question holds.

    Attributes
    ----------
    name : str
        Its key in JSON, and among the inputs of an example.
    what : str
        What must stand there, in words.
    sample : str
        How that looks in JSON.
    fits : callable
        Whether a value is one.
    several : str
        What many of them are called, in a sentence; ``texts`` is also a key of the service.
    from_file : callable, optional
        Gives the input that a value in a data file means, with the folder of that file, to which a
        path in it is relative.
    from_request : callable, optional
        Gives the input that a value in a request over a network means: whoever sends one names no
        file of the machine that answers.
    """

    name: str
    what: str
    sample: str
    fits: Callable[[Any], bool]
    several: str
    from_file: Callable[[Any, Path], Any] | None = None
    from_request: Callable[[Any], Any] | None = None


Form = tuple[Field, ...]
"""What must stand in a question together."""


def is_words(value: Any) -> bool:
    """Whether a value is a list of strings."""
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


TEXT = Field("text", "a string", '"…"', lambda value: isinstance(value, str), "texts")
TEXT_PAIR = Field(
    "text_pair", "a string", '"…"', lambda value: isinstance(value, str), "text_pairs"
)
WORDS = Field("words", "a list of strings", '["…", …]', is_words, "words")


def read_question(question: Any, forms: Sequence[Form], task: str) -> Json:
    """Read a question: a mapping in one of the forms, or a value that stands for one alone.

    Returns
    -------
    dict
        The inputs of an example; lists have become tuples.

    Raises
    ------
    DataError
        Saying what the task takes.
    """
    if not isinstance(question, Mapping):
        alone = [form[0] for form in forms if len(form) == 1]
        field = next((field for field in alone if field.fits(question)), None)
        if field is None:
            given = WORDS.several if is_words(question) else type(question).__name__
            raise DataError(_takes(forms, task, given))
        question = {field.name: question}
    form = next((form for form in forms if {field.name for field in form} == set(question)), None)
    if form is None:
        raise DataError(_takes(forms, task, " and ".join(map(str, question)) or "nothing"))
    wrong = next((field for field in form if not field.fits(question[field.name])), None)
    if wrong is not None:
        raise DataError(f"{wrong.name} must be {wrong.what}")
    return {key: tuple(one) if isinstance(one, list) else one for key, one in question.items()}


def _takes(forms: Sequence[Form], task: str, given: str) -> str:
    plain = {form[0]: form for form in reversed(forms)}  # what may stand beside it is not listed
    shown = [form for form in forms if plain[form[0]] is form]
    known = " or ".join(" with ".join(field.several for field in form) for form in shown)
    return f"this bundle does {task}; it takes {known}, not {given}"
