"""``edgecompress predict BUNDLE [TEXT]…``: ask a bundle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecompress.errors import DataError

if TYPE_CHECKING:
    from edgecompress.runtime import Prediction, Predictor

_STDIN = Path("<stdin>")


@click.command(name="predict")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--jsonl", is_flag=True, help='Read JSON lines, {"text": …} or {"words": […]}.')
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to use; default: all cores.")
@click.option(
    "--verify/--no-verify", default=True, help="Compare the bundle with its digests first."
)
def command(
    bundle: Path,
    texts: tuple[str, ...],
    jsonl: bool,
    as_json: bool,
    threads: int | None,
    verify: bool,
) -> None:
    """Answer for each TEXT with the model in BUNDLE.

    Without TEXT, or with `-`, texts are read from standard input, one a line, and answered line by
    line. With --jsonl, further keys of a line are given back in the answer, so that answers can
    be joined to what they belong to.
    """
    from_stdin = not texts or texts == ("-",)
    if jsonl and not from_stdin:
        raise click.UsageError("--jsonl reads standard input; leave the texts out")
    from edgecompress.runtime import load

    predictor = load(bundle, threads=threads, verify=verify)
    if from_stdin and sys.stdin.isatty():
        click.echo("One text a line; end with Ctrl-D.", err=True)
    lines: Iterable[tuple[int, str]] = _stdin_lines() if from_stdin else enumerate(texts, 1)
    if jsonl:
        lines = ((number, line) for number, line in lines if line.strip())
    try:
        for number, line in lines:
            click.echo(_answer(predictor, line, number, jsonl=jsonl, as_json=as_json))
    except BrokenPipeError:
        # Whoever read the answers has enough (`… | head`), which is no error; click would exit
        # with 1. Python's last flush of standard output must not meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(predictor: Predictor, line: str, number: int, *, jsonl: bool, as_json: bool) -> bytes:
    """Give the answer as UTF-8, whatever the terminal says it is: names need their letters."""
    extra: dict[str, Any] = {}
    if jsonl:
        extra = _document(line, number)
        words, text = extra.pop("words", None), extra.pop("text", "")
        said = predictor.predict(text) if words is None else predictor.predict_words(words)
    else:
        said = predictor.predict(line)
    if not as_json:
        return _for_people(said).encode()
    return json.dumps({**extra, **said.to_json()}, ensure_ascii=False).encode()


def _stdin_lines() -> Iterator[tuple[int, str]]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"not UTF-8 ({error.reason}); convert the text first", file=_STDIN, line=number
            ) from None
        text = text.removeprefix("\ufeff") if number == 1 else text
        yield number, text.removesuffix("\n").removesuffix("\r")


def _document(line: str, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", file=_STDIN, line=number) from None
    if isinstance(document, dict):
        words = document.get("words")
        if words is None and isinstance(document.get("text"), str):
            return document
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return document
    raise DataError(
        'a line must be an object with "text" (a string) or "words" (a list of strings)',
        file=_STDIN,
        line=number,
    )


def _for_people(said: Prediction) -> str:
    text = " ".join(said.text.split())
    if said.label is not None:
        return f"{said.label}  {said.score:.1%}  {text}"
    width = max((len(entity.label) for entity in said.entities), default=0)
    lines = [
        f"  {entity.label:{width}}  {entity.score:6.1%}  {' '.join(entity.text.split())}"
        f"  [{entity.start}:{entity.end}]"
        for entity in said.entities
    ]
    return "\n".join([text, *(lines or ["  nothing found"])])
