"""Read a column of texts from a table as spreadsheets write it: marks, separators, quotes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edgecompress.errors import DataError
from edgecompress.reading import open_regular
from edgecompress.words import shortened

MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
"""First bytes of a file that say its encoding for sure; without them it must be UTF-8."""
SEPARATORS = {".csv": ",;\t", ".tsv": "\t;,"}
"""By the file's ending, the likeliest first: some countries' spreadsheets write semicolons."""
MOST_CHARACTERS = 2**20
"""Of one field: a quote that is never closed would swallow the whole file."""


def table_texts(file: Path, column: str) -> Iterator[str]:
    """Yield the values of a column that are not empty, in order and without blanks around them.

    Parameters
    ----------
    file : Path
        ``.csv`` or ``.tsv`` with a header, in UTF-8 or, with a byte order mark, UTF-16.
    column : str
        In the header, upper and lower case alike.

    Raises
    ------
    DataError
        When the column is missing, or the file is in another encoding or no table; with the line.
    """
    with _opened(file) as stream:
        header, separator = _header(stream, file, column)
        place = header.index(column)
        rows = csv.reader(_lines(stream, file), delimiter=separator, strict=True)
        try:
            for row in rows:
                if len(row) > place and row[place].strip():
                    yield row[place].strip()
        except csv.Error as error:
            raise DataError(
                f"no table that can be read ({error}); save it as CSV again",
                file=file,
                line=rows.line_num + 1,
            ) from None


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Open a table in the encoding that its first bytes say."""
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        with open_regular(file) as stream:
            first = stream.read(3)
            stream.seek(0)
            encoding = next((e for mark, e in MARKS.items() if first.startswith(mark)), "utf-8")
            with io.TextIOWrapper(stream, encoding, newline="") as text:
                yield text
    except UnicodeError:
        raise DataError(
            f"not {encoding.removesuffix('-sig').upper()}; save the table as UTF-8",
            file=file,
            line=_bad_line(file, encoding),
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """Give the lines that remain, none of them longer than text is: one is held whole."""
    while line := stream.readline(MOST_CHARACTERS):
        if len(line) == MOST_CHARACTERS and not line.endswith("\n"):
            message = f"a row has more than {MOST_CHARACTERS:,} characters; this is no table"
            raise DataError(message, file=file)
        yield line


def _bad_line(file: Path, encoding: str) -> int | None:
    """Give the first line that is not in the encoding; None where lines cannot be told apart."""
    if encoding == "utf-16":
        return None
    with open_regular(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return None


def _header(stream: TextIO, file: Path, column: str) -> tuple[list[str], str]:
    """Read the first row; its separator is the one at which it has the column."""
    first = stream.readline(MOST_CHARACTERS)
    found: list[str] = []
    for separator in SEPARATORS[file.suffix]:
        names = [
            name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])
        ]
        if column in names:
            return names, separator
        found = max(found, names, key=len)
    known = shortened(", ".join(found), 200) or "none"
    raise DataError(
        f"the table has no column {column!r} but {known}; name the one with the texts so",
        file=file,
        line=1,
    )
