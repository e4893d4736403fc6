"""Reads the body of a request: questions, or a refusal with its status and one sentence."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

from edgecompress.service.limits import Limits

KEYS = ("text", "texts", "words")
_HOW = 'send {"text": "…"}, {"texts": ["…", …]} or {"words": ["…", …]}'


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
    """One text, whole or split into words: one of the two is there."""

    text: str | None = None
    words: tuple[str, ...] | None = None

    @property
    def characters(self) -> int:
        """Length of the text, or of its words joined by blanks."""
        if self.text is not None:
            return len(self.text)
        words = self.words or ()
        return sum(map(len, words)) + max(len(words) - 1, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks; `several` says that the answer is a list."""

    questions: tuple[Question, ...]
    several: bool


def read_body(body: bytes, limits: Limits) -> Asked:
    """Read a request's JSON.

    Raises
    ------
    RefusedError
        400 when it is no JSON, 422 when it asks nothing that is known, 413 beyond a limit.
    """
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise RefusedError(400, f"the body is not UTF-8; {_HOW}") from None
    except (ValueError, RecursionError) as error:
        # The decoder's own words give the place; they quote nothing of the body.
        raise RefusedError(400, f"the body is not JSON ({error}); {_HOW}") from None
    if not isinstance(document, dict):
        raise RefusedError(422, f"the body must be a JSON object; {_HOW}")
    given = [key for key in KEYS if key in document]
    unknown = [key for key in document if key not in KEYS]
    if unknown:
        near = difflib.get_close_matches(unknown[0][:40], KEYS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ";"
        raise RefusedError(422, f"unknown key {_short(unknown[0])}{meant} {_HOW}")
    if len(given) != 1:
        raise RefusedError(422, f"exactly one of text, texts and words must be there; {_HOW}")
    asked = _asked(given[0], document[given[0]])
    _check_sizes(asked, limits)
    return asked


def _asked(key: str, value: Any) -> Asked:
    if key == "text":
        if not isinstance(value, str):
            raise RefusedError(422, "text must be a string")
        return Asked((Question(text=value),), several=False)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(422, f"{key} must be a list of strings")
    if key == "words":
        return Asked((Question(words=tuple(value)),), several=False)
    return Asked(tuple(Question(text=item) for item in value), several=True)


def _check_sizes(asked: Asked, limits: Limits) -> None:
    most = limits.texts_per_request
    if len(asked.questions) > most:
        raise RefusedError(
            413, f"{len(asked.questions)} texts in one request; send at most {most} at once"
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
