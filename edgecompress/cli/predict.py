"""``edgecompress predict BUNDLE [TEXT]…``: ask a bundle."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say, say_json, say_piece
from edgecompress.cli._values import named_columns
from edgecompress.errors import DataError
from edgecompress.runtime.lines import Source, arriving
from edgecompress.tables import SUFFIXES, examples, open_table, take_columns
from edgecompress.words import nearest

if TYPE_CHECKING:
    from edgecompress.runtime import Predictor
    from edgecompress.runtime.predictor import Question

_STDIN = Path("<stdin>")
_TYPED = Path("TEXT")
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_JSON_LINES = (".jsonl", ".ndjson")
_BEFORE_TUNING = 64  # texts: a short list ends sooner without


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked, what else stood in its line, and how a fault in that line is told."""

    item: Question
    further: dict[str, Any] = field(default_factory=dict)
    wrong: Callable[[str], DataError] | None = None


_ALSO = (
    click.Option(
        ["--input", "file"],
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Read texts from a file, one a line; JSON lines if it ends in .jsonl or .ndjson, rows "
        "if it ends in .csv, .tsv, .json or .parquet.",
    ),
    click.Option(
        ["--columns", "file_columns"],
        multiple=True,
        callback=named_columns,
        metavar="NAME=COLUMN",
        help="What the file calls its text or its words (text=headline), where it has columns.",
    ),
    click.Option(["--jsonl"], is_flag=True, help='Read JSON lines, {"text": …} or {"words": […]}.'),
    click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object a line."),
)
_MORE = """\
Without TEXT and --input, or with `-`, texts are read from standard input, one a line. Answers
come in the order of the texts, each as soon as it is there, and no more is read ahead than a
pipe holds. With --jsonl, and of a file with columns, further keys of a line are given back in the
answer, so that answers can be joined to what they belong to. Where the model asks about no text,
every TEXT and line is JSON.

With --threads auto the number is found after the first 64 texts of a file or pipe; with --tune
first, and nothing else is done without texts.
"""


@command_of(
    "predicting.predict",
    also=_ALSO,
    changes={
        "texts": {"type": str, "nargs": -1, "required": False, "metavar": "[TEXT]..."},
        "threads": {"envvar": "EDGECOMPRESS_THREADS"},
    },
    more=_MORE,
)
def predict(
    _function: Any,
    texts: tuple[str, ...],
    file: Path | None,
    file_columns: dict[str, str],
    jsonl: bool,
    as_json: bool,
    tune: bool,
    settings: tuple[str, ...],
    threads: int | Literal["auto"],
    **options: Any,
) -> int:
    """Write answers as they come: no list of all of them is made."""
    typed = bool(texts) and texts != ("-",)
    if file and texts:
        raise click.UsageError("--input takes the place of the texts; leave them out")
    if jsonl and typed:
        raise click.UsageError("--jsonl reads a file or standard input; leave the texts out")
    tabular = file is not None and not jsonl and file.suffix.lower() in SUFFIXES
    tabular &= bool(file_columns) or (file is not None and file.suffix.lower() not in _JSON_LINES)
    if file_columns and not tabular:
        raise click.UsageError("--columns needs --input with a file that has columns (.csv …)")
    if tune and threads != "auto":
        raise click.UsageError("--tune finds the number of threads; leave --threads out")
    from edgecompress.api.predicting import open_bundle

    try:
        predictor = open_bundle(threads=threads, **options)
        predictor.always(settings)
        if tune:
            _tune(predictor)
            if not (file or texts):
                return 0
        if typed:
            asked: Iterable[_Asked] = map(_Asked, texts)
            if not predictor.takes_text:
                numbered = enumerate(texts, start=1)
                asked = (_document(t, n, _TYPED, predictor) for n, t in numbered)
            _write(predictor, asked, as_json)
        elif file and tabular:
            _answer_table(predictor, file, file_columns, as_json=as_json)
        elif file:
            jsonl |= file.suffix.lower() in _JSON_LINES
            with file.open("rb") as stream:
                _answer_lines(predictor, stream, file, jsonl=jsonl, as_json=as_json, tune=True)
        else:
            person = sys.stdin.isatty()  # who would only notice the pause
            if person:
                click.echo("One text a line; end with Ctrl-D.", err=True)
            source: Any = sys.stdin.buffer
            _answer_lines(predictor, source, _STDIN, jsonl=jsonl, as_json=as_json, tune=not person)
    except BrokenPipeError:
        # Whoever read the answers has enough (`… | head`), which is no error; click would exit
        # with 1. Python's last flush of standard output must not meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        # The usual end of a pipe that has none; every answer that was made is written.
        return _INTERRUPTED
    return 0


def _tune(predictor: Predictor) -> None:
    times = predictor.tune()
    found = "; ".join(f"{count}: {ms:.2f} ms" for count, ms in sorted(times.items()))
    reason = found or "there is one core to use"
    click.echo(f"threads: {predictor.threads} ({reason})", err=True)


def _answer_lines(
    predictor: Predictor, stream: Source, name: Path, *, jsonl: bool, as_json: bool, tune: bool
) -> None:
    """Answer group after group of lines; a line that is wrong ends it behind those before it."""
    number, jsonl = 0, jsonl or not predictor.takes_text
    for group in arriving(stream, str(name)):
        asked: list[_Asked] = []
        wrong: DataError | None = None
        for line in group:
            number += 1
            try:
                asked += _asked(line, number, name, predictor if jsonl else None)
            except DataError as error:
                wrong = error
                break
        _write(predictor, asked, as_json)
        if wrong:
            raise wrong
        if tune and number >= _BEFORE_TUNING and not predictor.tuned:
            predictor.tune()


def _answer_table(
    predictor: Predictor, file: Path, columns: dict[str, str], *, as_json: bool
) -> None:
    """Answer a file with columns; a row that is wrong ends it behind those before it."""
    asked = _rows(predictor, file, columns)
    while True:
        group: list[_Asked] = []
        wrong: DataError | None = None
        try:
            group += islice(asked, _BEFORE_TUNING)
        except DataError as error:
            wrong = error
        _write(predictor, group, as_json)
        if wrong:
            raise wrong
        if len(group) < _BEFORE_TUNING:
            return
        if not predictor.tuned:
            predictor.tune()


def _rows(predictor: Predictor, file: Path, columns: dict[str, str]) -> Iterator[_Asked]:
    """Read the questions of a file with columns, each with what else its row holds."""
    from edgecompress.tasks import task, wanted

    table = open_table(file)
    asked = wanted(task(str(predictor.manifest.task)), answers="ignored")
    taken = take_columns(table, columns, asked, "give --columns {}=NAME")
    others = [one for one in table.columns if one not in taken.columns and one[:1] != "\0"]
    for number, example, values in examples(table, taken, also=others, blank="keep"):
        wrong = partial(table.error, number=number)
        yield _Asked(dict(example.inputs), {one: values.get(one) for one in others}, wrong)


def _write(predictor: Predictor, asked: Iterable[_Asked], as_json: bool) -> None:
    """Write each answer when it is there."""
    waiting: list[_Asked] = []

    def items() -> Iterator[Question]:
        for each in asked:
            waiting.append(each)
            yield each.item

    try:
        if predictor.streams and not as_json:
            for one in items():
                _write_pieces(predictor, one)
                waiting.clear()
            return
        for said in predictor.stream(items()):
            if as_json:
                document = {**waiting[0].further, **said.to_json()}
                say_json(json.dumps(document, ensure_ascii=False, default=str))
            else:
                say(predictor.describe(said))
            del waiting[0]
    except DataError as error:
        if not waiting or waiting[0].wrong is None:
            raise
        if len(waiting) == 1:
            raise waiting[0].wrong(str(error)) from None
        # Of several that were read ahead nobody knows which it is; those before it are answered.
        for each in waiting:
            _write(predictor, [each], as_json)
        raise


def _write_pieces(predictor: Predictor, question: Question) -> None:
    """Write an answer as it comes."""
    for piece in predictor.pieces(question):
        say_piece(piece)
    say()


def _asked(line: bytes, number: int, file: Path, predictor: Predictor | None) -> list[_Asked]:
    """Read a line: one question, or none where a blank line divides JSON lines."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 ({error.reason}); convert the text first", file=file, line=number
        ) from None
    text = text.removeprefix("\ufeff") if number == 1 else text
    if predictor is None:
        return [_Asked(text.removesuffix("\r"), wrong=partial(DataError, file=file, line=number))]
    return [_document(text, number, file, predictor)] if text.strip() else []


def _document(line: str, number: int, file: Path, predictor: Predictor) -> _Asked:
    forms = predictor.forms
    wanted = "a line must be an object with " + " or ".join(
        " and ".join(f'"{field.name}" ({field.what})' for field in form) for form in forms
    )
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}); {wanted}", file=file, line=number) from None
    fields = {field.name: field for form in forms for field in form}
    if isinstance(document, dict) and not document.keys() & fields.keys():
        near = next(
            (f'; is {json.dumps(key[:40], ensure_ascii=False)} meant to be "{close[0]}"?'
             for key in document if (close := nearest(key, fields))),
            "",
        )  # fmt: skip
        names = " nor ".join(f'"{name}"' for name in fields)
        raise DataError(
            f"asks nothing: there is {'neither' if len(fields) > 1 else 'no'} {names} in it{near}",
            file=file,
            line=number,
        )
    if isinstance(document, dict):
        # Of several forms the later one counts: words say more than the text that they make.
        names_of = [[field.name for field in form] for form in forms]
        held = [
            names for names in names_of if all(document.get(name) is not None for name in names)
        ]
        asked = {name: document[name] for name in (held[-1] if held else ())}
        if asked and all(fields[name].fits(value) for name, value in asked.items()):
            if _surrogate(asked):
                raise DataError(
                    "holds half of a surrogate pair, which is no character", file=file, line=number
                )
            beside = {one.name for one in predictor.options}
            asked |= {key: document[key] for key in document if key in beside}
            further = {k: v for k, v in document.items() if k not in {*fields, *beside}}
            wrong = None if file is _TYPED else partial(DataError, file=file, line=number)
            return _Asked(asked, further, wrong)
    raise DataError(wanted, file=file, line=number)


def _surrogate(asked: dict[str, Any]) -> bool:
    text = json.dumps(asked, ensure_ascii=False)
    return any("\ud800" <= letter <= "\udfff" for letter in text)
