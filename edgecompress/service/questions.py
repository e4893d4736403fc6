"""Reads the body of a request: questions, or a refusal with its status and one sentence."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecompress.errors import DataError
from edgecompress.service.forms import FormError, is_form, read_form
from edgecompress.service.limits import Limits
from edgecompress.values import Json
from edgecompress.words import did_you_mean

if TYPE_CHECKING:
    from edgecompress.tasks.asking import Field, Form


STREAM = "stream"
"""Key with which a client asks for the answer in pieces, as server-sent events."""


class RefusedError(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status : int
        HTTP status.
    sentence : str
        What is wrong and what to do, for the client.
    retry_after_s : int, optional
        When it is worth asking again.
    """

    def __init__(self, status: int, sentence: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after_s = status, sentence, retry_after_s


@dataclass(frozen=True, slots=True)
class Question:
    """What one input is made of, by the names of its fields: ``{"text": "…"}``.

    Attributes
    ----------
    asked : dict
    heard : callable, optional
        Given each piece of an answer that comes in pieces, in a worker's thread; it says whether
        anybody still listens.
    """

    asked: Json
    heard: Callable[[str], bool] | None = field(default=None, compare=False)

    @property
    def characters(self) -> int:
        """Length of the text, or of its words joined by blanks, and so of other strings."""
        return _characters(list(self.asked.values()))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks; `several` says that the answer is a list, `stream` that it is events."""

    questions: tuple[Question, ...]
    several: bool
    stream: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """What may be asked, by the tasks that there are: `forms`, and `several` of a form's inputs."""

    forms: tuple[Form, ...]
    several: Mapping[str, Field]
    options: tuple[Field, ...] = ()
    streams: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that a body may have."""
        names = (name for form in self.forms for name in self._names(form))
        beside = [*(one.name for one in self.options), *([STREAM] if self.streams else [])]
        return tuple(dict.fromkeys((*names, *beside)))

    @property
    def alone(self) -> tuple[str, ...]:
        """Those that may stand alone."""
        names = (name for form in self.forms if len(form) == 1 for name in self._names(form))
        return tuple(dict.fromkeys(names))

    def _names(self, form: Form) -> Iterator[str]:
        for one in form:
            yield one.name
            if one.several in self.several:
                yield one.several

    @property
    def how(self) -> str:
        """Say how to ask."""
        samples = []
        for form in self.forms:
            samples.append("{" + ", ".join(f'"{one.name}": {one.sample}' for one in form) + "}")
            if len(form) == 1 and form[0].several in self.several:
                samples.append(f'{{"{form[0].several}": [{form[0].sample}, …]}}')
        return f"send {_or(samples)}"


@functools.cache
def _known(asked: str | None) -> _Known:
    from edgecompress.tasks import task, task_names

    # Of what a bundle's kind of processor takes it says itself what it answers, and what not.
    kind = task(asked).processor if asked in task_names() else None
    tasks = [one for one in map(task, task_names()) if kind in (None, one.processor)]
    forms = tuple(dict.fromkeys(form for one in tasks for form in one.forms))
    alone = [form[0] for form in forms if len(form) == 1]
    options = tuple({one.name: one for kind in tasks for one in kind.options}.values())
    several = {one.several: one for one in alone if one.several != one.name}
    return _Known(forms, several, options, any(one.streams for one in tasks))


def read_body(
    body: bytes, limits: Limits, task: str | None = None, content_type: str = ""
) -> Asked:
    """Read a request's JSON or form, as what it may hold for a task; for any where that is None.

    Raises
    ------
    RefusedError
        400 when it is neither, 422 when it asks nothing that is known, 413 beyond a limit.
    """
    known = _known(task)
    form = is_form(content_type)
    document = _of_form(body, content_type, known) if form else _of_json(body, known)
    unknown = [key for key in document if key not in known.keys]
    if unknown:
        near = did_you_mean(unknown[0], known.keys) or ";"
        raise RefusedError(422, f"unknown key {_short(unknown[0])}{near} {known.how}")
    asked = _asked(document, known)
    _check_sizes(asked, limits, task)
    return asked


def _of_json(body: bytes, known: _Known) -> Json:
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RefusedError(400, f"the body is not UTF-8; {known.how}") from None
    except (ValueError, RecursionError) as error:
        # The decoder's own words give the place; they quote nothing of the body.
        raise RefusedError(400, f"the body is not JSON ({error}); {known.how}") from None
    if not isinstance(document, dict):
        raise RefusedError(422, f"the body must be a JSON object; {known.how}")
    return document


def _of_form(body: bytes, content_type: str, known: _Known) -> Json:
    """Read the fields of a form; what comes several times is a list, as its key for several has."""
    several = {one.name: key for key, one in known.several.items()}
    found: dict[str, list[Any]] = {}
    try:
        for name, value in read_form(body, content_type):
            found.setdefault(name, []).append(_meant(name, value, known))
    except FormError as error:
        raise RefusedError(400, f"the body is no form: {error}") from None
    document: Json = {}
    for name, values in found.items():
        if len(values) > 1 and name not in (*several, *known.several):
            raise RefusedError(422, f"{_short(name)} stands there {len(values)} times")
        many = name in known.several or len(values) > 1
        document[several.get(name, name) if many else name] = values if many else values[0]
    return document


def _meant(name: str, value: str | bytes, known: _Known) -> Any:
    """Give what a field of a form means: words are text, where no number or list is wanted."""
    fields = (*(one for form in known.forms for one in form), *known.options)
    one = next((one for one in fields if one.name == name), None)
    if isinstance(value, bytes) or name in known.several or (one is not None and one.fits(value)):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _asked(document: Json, known: _Known) -> Asked:
    beside = {one.name: one for one in known.options if one.name in document}
    for name, one in beside.items():
        if not one.fits(document[name]):
            raise RefusedError(422, f"{name} must be {one.what}")
    stream = document.get(STREAM, False)
    if not isinstance(stream, bool):
        raise RefusedError(422, f"{STREAM} must be true or false")
    given = {name: document[name] for name in beside}
    rest = {key: document[key] for key in document if key not in (*beside, STREAM)}
    asked = _asked_alone(rest, known)
    if stream and asked.several:
        raise RefusedError(422, f"{STREAM} is for one question; ask the others by themselves")
    whole = tuple(Question({**one.asked, **given}) for one in asked.questions)
    return Asked(whole, asked.several, stream)


def _asked_alone(document: Json, known: _Known) -> Asked:
    keys = set(document)
    many = known.several.get(next(iter(keys))) if len(keys) == 1 else None
    if many is not None:
        items = document[many.several]
        if not isinstance(items, list) or not all(map(many.fits, items)):
            one, mark, more = many.what.partition(" (")  # "an image (a path or bytes)"
            of_these = f"{one.partition(' ')[2]}s{mark}{more}"
            raise RefusedError(422, f"{many.several} must be a list of {of_these}")
        return Asked(tuple(_question({many.name: item}, (many,)) for item in items), several=True)
    form = next((form for form in known.forms if {one.name for one in form} == keys), None)
    if form is None:
        names = " and".join(", ".join(known.alone).rsplit(",", 1))
        raise RefusedError(422, f"exactly one of {names} must be there; {known.how}")
    wrong = next((one for one in form if not one.fits(document[one.name])), None)
    if wrong is not None:
        raise RefusedError(422, f"{wrong.name} must be {wrong.what}")
    return Asked((_question(document, form),), several=False)


def _question(document: Json, form: Form) -> Question:
    """Make a question of what a stranger sent; what is a path to a person here is none."""
    try:
        return Question(
            {
                one.name: one.from_request(document[one.name])
                if one.from_request is not None
                else document[one.name]
                for one in form
            }
        )
    except DataError as error:
        raise RefusedError(422, error.message) from None


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_characters, parts)) + max(len(parts) - 1, 0)


def _or(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def inputs_of(name: str | None) -> str:
    """Say what the inputs of a task are called: texts, images, sounds."""
    from edgecompress.tasks import task, task_names

    forms = task(name).forms if name in task_names() else ()
    return forms[0][0].several if forms else "texts"


def sends_files(name: str) -> bool:
    """Whether a request for a task holds files."""
    from edgecompress.tasks import task

    return any(field.from_request is not None for form in task(name).forms for field in form)


def _check_sizes(asked: Asked, limits: Limits, task: str | None) -> None:
    most = limits.texts_per_request
    if len(asked.questions) > most:
        raise RefusedError(
            413,
            f"{len(asked.questions)} {inputs_of(task)} in one request; send at most {most} at once",
        )
    for number, question in enumerate(asked.questions, 1):
        if (length := question.characters) > limits.max_text:
            which = f"text {number}" if asked.several else "the text"
            raise RefusedError(
                413,
                f"{which} has {length} characters; at most {limits.max_text} are answered here, "
                "so send it in parts",
            )


def _short(key: str, most: int = 40) -> str:
    return repr(key if len(key) <= most else f"{key[:most]}…")
