"""Records in JSON: an object a line, or one list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.reading import first_line, read_text
from edgecompress.tables.base import Record, Table
from edgecompress.textfiles import check_file, read_lines
from edgecompress.words import shortened

LIST_BYTES = 256 * 2**20
"""Of a JSON list, whose text is held whole; JSON lines may be of any size."""
_BLANK = re.compile(r"[ \t\r\n]*")


def json_table(file: Path) -> Table:
    """Open a file of JSON lines, or of one JSON list; its columns are the keys of the records.

    Raises
    ------
    DataError
        When the file is missing, empty, or its first record is no JSON object.
    """
    check_file(file)
    begin = next((line.lstrip() for line in read_lines(file) if line.strip()), "")
    records = _listed if begin.startswith("[") else _by_line
    first = next((values for _, values in records(file)), None)
    if first is None:
        raise DataError("holds no record", file=file)

    def read(_wanted: Sequence[str]) -> Iterator[Record]:
        return records(file)

    return Table(file, tuple(first), read)


def _by_line(file: Path) -> Iterator[Record]:
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _broken(error, file, number) from None
            yield number, _object(found, file, number)


def _listed(file: Path) -> Iterator[Record]:
    """Give the items of a list one by one, each with the line that it begins on."""
    text, decoder = read_text(file, LIST_BYTES), json.JSONDecoder()
    place = _after_blanks(text, text.index("[") + 1)
    number, counted = 1, 0
    while text[place : place + 1] != "]":
        number += text.count("\n", counted, place)
        counted = place
        try:
            found, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", number)
            raise _broken(error, file, line) from None
        yield number, _object(found, file, number)
        place = _after_blanks(text, place)
        if text[place : place + 1] == ",":
            place = _after_blanks(text, place + 1)
        elif text[place : place + 1] != "]":
            line = 1 + text.count("\n", 0, place)
            raise DataError("the list lacks a comma or its end here", file=file, line=line)
    if text[place + 1 :].strip():
        line = 1 + text.count("\n", 0, place)
        raise DataError("something follows the list's end", file=file, line=line)


def _after_blanks(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _object(found: Any, file: Path, number: int) -> dict[str, Any]:
    if not isinstance(found, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(type(found), "a number")
        raise DataError(
            f'a record must be an object such as {{"text": "…"}}, not {kind}',
            file=file,
            line=number,
        )
    return found


def _broken(error: Exception, file: Path, number: int) -> DataError:
    if isinstance(error, RecursionError):
        why = "it is nested too deeply"
    else:
        why = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
    return DataError(f"cannot be read as JSON ({shortened(why, 120)})", file=file, line=number)
