"""What the columns of a table are to a task: named by a person, or guessed where that is safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgecompress.errors import DataError
from edgecompress.tables.base import Table
from edgecompress.tables.cells import as_label, as_number, as_tags, as_text, as_words
from edgecompress.values import Example
from edgecompress.words import did_you_mean, listed, shortened

NAMES: Mapping[str, tuple[str, ...]] = {
    "text": (
        *("text", "sentence", "content", "tweet", "review", "comment", "message", "document"),
        *("utterance", "headline", "sentence1", "text1"),
    ),
    "text_pair": ("text_pair", "sentence2", "text2", "sentence_pair"),
    "score": ("score", "similarity", "similarity_score", "relatedness_score"),
    "query": ("query", "question", "anchor"),
    "positives": ("positives", "positive"),
    "negatives": ("negatives", "negative"),
    "words": ("words", "tokens"),
    "label": ("label", "labels", "category", "class", "target", "sentiment", "intent"),
    "tags": ("tags", "ner_tags", "labels", "ner"),
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph"),
    "answer": ("answer", "answers"),
    "answer_start": ("answer_start", "answer_starts", "start"),
    "audio": ("audio", "sound", "path", "file", "file_name", "filename", "audio_path", "file_path"),
    "image": ("image", "img", "path", "file", "file_name", "filename", "image_path", "file_path"),
}
"""What columns are commonly called; the first is the task's own name."""

HINT = "set data.columns.{}"
"""How a recipe names the column of a role."""

Finish = Callable[[Mapping[str, Any], Any, bool], tuple[Mapping[str, Any], Any]]
"""Holds the values of a record against each other, and gives an example's inputs and right answer;
told whether a column of answers is there."""

Need = Literal["needed", "welcome", "ignored"]
"""Whether records hold the right answer: a record without is an error, or none is looked for."""

Fit = tuple[str, Callable[[Any], bool], Callable[[Any, Path], Any] | None]

CELLS: Mapping[str, Callable[..., Any]] = {
    "text": as_text,
    "text_pair": as_text,
    "words": as_words,
    "label": as_label,
    "tags": as_tags,
    "score": as_number,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a record.

    Attributes
    ----------
    forms : tuple of tuple of str
        Inputs that stand together, by the task's names; one of these.
    target : str or None
        What the right answer is called; None: the tags of words, the label of anything else.
    answers : {"needed", "welcome", "ignored"}
    fits : mapping of str to (str, callable, callable or None)
        Of inputs that are neither texts nor words: what must stand there, whether a value is that,
        and what gives the input that it means, with the folder of the file.
    finish : callable or None
        What is done with a whole record of these.
    """

    forms: tuple[tuple[str, ...], ...] = (("text",), ("words",))
    target: str | None = None
    answers: Need = "needed"
    fits: Mapping[str, Fit] = field(default_factory=dict)
    finish: Finish | None = None

    def answer(self, form: Sequence[str]) -> str:
        """Name the right answer to what is asked in a form."""
        return self.target or ("tags" if "words" in form else "label")

    @property
    def roles(self) -> tuple[str, ...]:
        """All that a column can be."""
        every = (*(role for form in self.forms for role in form), *map(self.answer, self.forms))
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True, slots=True)
class Taken:
    """Which columns are read: `inputs` by the task's names, and the answer's, if there is one."""

    inputs: Mapping[str, str]
    target: str | None = None
    answer: str = ""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    finish: Finish | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (*self.inputs.values(), *((self.target,) if self.target is not None else ()))

    @property
    def by_role(self) -> dict[str, str]:
        """The columns by the task's names."""
        return {**self.inputs, **({self.answer: self.target} if self.target is not None else {})}


def take_columns(
    table: Table, columns: Mapping[str, str], wanted: Wanted, hint: str = HINT
) -> Taken:
    """Find the columns that hold what is wanted.

    Parameters
    ----------
    table : Table
    columns : mapping of str to str
        By the task's names, what the file calls them; the others are guessed, where exactly one
        column has a common name (`NAMES`).
    wanted : Wanted
    hint : str
        How a person names the column of the role ``{}``, for the error.

    Raises
    ------
    DataError
        When a column is not there, or two could be meant; with the nearest right name.
    """
    for role, name in columns.items():
        if role not in wanted.roles:
            known = _listed(wanted.roles)
            near = did_you_mean(role, wanted.roles)
            raise DataError(f"columns are named for {known}, not for {role!r}{near}")
        check_column(table, name, hint.format(role))
    forms = [form for form in wanted.forms if columns.keys() & set(form)] or list(wanted.forms)
    if wanted.answers == "needed" and wanted.target is not None:
        tagged = [form for form in forms if ("words" in form) == (wanted.target == "tags")]
        forms = tagged or forms
    found = [form for form in forms if all(_guess(table, role, columns) for role in form)]
    if not found:
        tagged = [form for form in forms if ("words" in form) == (wanted.target == "tags")]
        form = (*tagged, *forms)[0]  # of tags the words are asked for, which a text is no more than
        role = next(role for role in form if not _guess(table, role, columns))
        raise _missing(table, role, hint.format(role))
    # Where it is answered, the later of several forms counts (words say more than a text), else the
    # one that holds most.
    looked = wanted.answers != "ignored"
    answered = [form for form in found if looked and _guess(table, wanted.answer(form), columns)]
    form = answered[-1] if answered else max(found, key=len)
    inputs = {role: _one(table, role, columns, hint) for role in form}
    checks = {role: wanted.fits[role] for role in form if role in wanted.fits}
    answer = wanted.answer(form)
    if looked:
        if _guess(table, answer, columns):
            return Taken(inputs, _one(table, answer, columns, hint), answer, checks, wanted.finish)
        if wanted.answers == "needed":
            raise _missing(table, answer, hint.format(answer))
    return Taken(inputs, fits=checks, finish=wanted.finish)


def check_column(table: Table, name: str, hint: str) -> str:
    """Give `name` back if it is a column's.

    Raises
    ------
    DataError
        When it is none, with the nearest that is.
    """
    if name not in table.columns:
        raise _missing(table, name, hint)
    return name


def examples(
    table: Table,
    taken: Taken,
    source: str = "",
    classes: Sequence[str] = (),
    also: Sequence[str] = (),
    blank: Literal["refuse", "skip", "keep"] = "refuse",
) -> Iterator[tuple[int, Example, Mapping[str, Any]]]:
    """Make an example of each record, with the record's number and its values.

    Parameters
    ----------
    table : Table
    taken : Taken
        As `take_columns` found them.
    source : str
        What the examples' file is called.
    classes : sequence of str
        The names of class numbers, where the table does not have them.
    also : sequence of str
        Further columns whose values are wanted.
    blank : {"refuse", "skip", "keep"}
        What becomes of a record in which something is empty.

    Raises
    ------
    DataError
        At the first value that is none of its kind, naming its line and column.
    """
    keep = blank == "keep"
    folder = table.file if table.file.is_dir() else table.file.parent
    names = classes or (table.classes.get(taken.target, ()) if taken.target is not None else ())
    for number, values in table.read((*taken.columns, *also)):
        try:
            inputs: Mapping[str, Any] = {
                role: _cell(taken, role, name, values, table.spaced, (), folder, keep=keep)
                for role, name in taken.inputs.items()
            }
            target = None
            if taken.target is not None:
                target = _cell(
                    taken, taken.answer, taken.target, values, table.spaced, names, folder
                )
            if taken.answer == "tags" and len(target or ()) != len(inputs["words"]):
                raise DataError(
                    f"{len(inputs['words'])} words have {len(target or ())} tags; each needs one"
                )
            if taken.finish is not None:
                inputs, target = taken.finish(inputs, target, taken.target is not None)
        except _EmptyCellError as error:
            if blank == "skip":
                continue
            raise table.error(error.message, number) from None
        except DataError as error:
            raise table.error(error.message, number) from None
        yield number, Example(inputs, target, source), values


class _EmptyCellError(DataError):
    """A record has nothing in a column."""


def _cell(
    taken: Taken,
    role: str,
    name: str,
    values: Mapping[str, Any],
    spaced: bool,
    names: Sequence[str],
    folder: Path,
    *,
    keep: bool = False,
) -> Any:
    value, column = values.get(name), f"the column {shortened(name, 60)}"
    if role in taken.fits:
        what, fits, opened = taken.fits[role]
        if not fits(value):
            raise DataError(f"{column} must hold {what}")
        if opened is not None:
            return opened(value, folder)
        return tuple(value) if isinstance(value, list) else value
    if role not in CELLS:
        return value
    try:
        found = CELLS[role](value, spaced, names)
    except DataError as error:
        raise DataError(f"{column}: {error.message}") from None
    if not found and not keep and not isinstance(found, float):
        raise _EmptyCellError(f"{column} is empty")
    return found


def _guess(table: Table, role: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Give the columns that may be meant: the one that is named, or is called so, or all alike."""
    if role in columns:
        return (columns[role],)
    if role in table.columns:
        return (role,)
    common = NAMES.get(role, (role,))
    return tuple(name for name in table.columns if name.strip().lower() in common
                 and name not in columns.values())  # fmt: skip


def _one(table: Table, role: str, columns: Mapping[str, str], hint: str) -> str:
    found = _guess(table, role, columns)
    if len(found) > 1:
        raise DataError(
            f"{_listed(found)} may each be the {role}; say which ({hint.format(role)})",
            file=table.file,
        )
    return found[0]


def _missing(table: Table, name: str, hint: str) -> DataError:
    shown = [one for one in table.columns if not one.startswith("\0")]
    known = shortened(", ".join(map(repr, shown)), 200)
    return DataError(
        f"there is no column {shortened(name, 60)!r} among {known}"
        f"{did_you_mean(name, [one[:100] for one in shown[:100]])} ({hint})",
        file=table.file,
        line=1 if table.lines else None,
    )


def _listed(names: Sequence[str]) -> str:
    return shortened(listed([repr(name) for name in names]), 200)
