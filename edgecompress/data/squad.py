"""Questions about passages in SQuAD's JSON: 1.1, and 2.0 with questions that have no answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgecompress.data.files import FileData
from edgecompress.errors import DataError
from edgecompress.passages import RightAnswers, right_answers
from edgecompress.reading import read_json
from edgecompress.textfiles import check_file
from edgecompress.values import Example

MOST_BYTES = 256 * 2**20
"""SQuAD 2.0's own training file has 42 MB; a file is held whole."""


class SquadData(FileData):
    """Files with ``data``, ``paragraphs`` and ``qas``, as SQuAD has them."""

    also_called: ClassVar[tuple[str, ...]] = ("squad_v2", "squad2", "squad-json", "xquad")

    format: Literal["squad"] = "squad"

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the questions of one file; those without ``answers`` nobody has answered."""
        check_file(file)
        document = read_json(file, MOST_BYTES)
        try:
            for n, article in enumerate(_list(document, "data", "the file")):
                for m, paragraph in enumerate(_list(article, "paragraphs", f"data[{n}]")):
                    place = f"data[{n}].paragraphs[{m}]"
                    context = _text(paragraph, "context", place)
                    for k, asked in enumerate(_list(paragraph, "qas", place)):
                        yield _example(asked, context, f"{place}.qas[{k}]", source)
        except DataError as error:
            raise DataError(error.message, file=file) from None

    def label_line(self, file: Path, label: str) -> int | None:  # noqa: ARG002
        """Find nothing: there are no labels."""
        return None


def _example(asked: Any, context: str, place: str, source: str) -> Example:
    question = _text(asked, "question", place)
    name = str(asked.get("id", ""))
    inputs = {"question": question, "context": context}
    if asked.get("is_impossible") is True:  # what else stands there is only plausible
        return Example(inputs, RightAnswers(), source, name)
    if "answers" not in asked:
        return Example(inputs, None, source, name)
    answers = _list(asked, "answers", place)
    if not answers and "is_impossible" in asked:
        raise DataError(f"the question {name or place} has no answer and is not is_impossible")
    try:
        return Example(inputs, right_answers(context, answers), source, name)
    except DataError as error:
        raise DataError(f"the question {name or place}: {error.message}") from None


def _list(found: Any, key: str, place: str) -> list[Any]:
    value = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(value, list):
        raise DataError(
            f"{place} has no list {key!r}, so that this is no SQuAD file (format: jsonl reads "
            "records of question, context and answer)"
        )
    return value


def _text(found: Any, key: str, place: str) -> str:
    value = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place} has no text {key!r}")
    return value
