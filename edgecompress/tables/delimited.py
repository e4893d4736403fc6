"""Tables in text, as spreadsheets and scripts write them: CSV with its dialects, and plain TSV.

Python's `csv` reads them: it is the only reader at hand that says on which line a wrong row stands,
and it is there on a device.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edgecompress.errors import DataError
from edgecompress.reading import open_regular
from edgecompress.tables.base import Record, Table
from edgecompress.textfiles import check_file, read_lines
from edgecompress.words import shortened

MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
"""First bytes of a file that say its encoding for sure."""
SEPARATORS = ",;\t|"
"""The likeliest first: some countries' spreadsheets write semicolons."""
SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?\s*')
"""What a spreadsheet may write before the header."""
MOST_CHARACTERS = 2**21
"""Of one field: a quote that is never closed would swallow the whole file."""


def csv_table(file: Path, delimiter: str | None = None, encoding: str | None = None) -> Table:
    """Open a CSV file with a header; fields may be quoted and hold line breaks.

    Parameters
    ----------
    file : Path
    delimiter : str, optional
        What stands between fields; else the one of `SEPARATORS` that divides the header most.
    encoding : str, optional
        Without it, what a byte order mark says, or UTF-8.

    Raises
    ------
    DataError
        When the file is missing, empty, in another encoding, or has no header.
    """
    check_file(file)
    encoding = encoding or _marked(file)
    with _opened(file, encoding) as stream:
        lines = stream.readline(MOST_CHARACTERS), stream.readline(MOST_CHARACTERS)
    said = SEPARATOR_LINE.fullmatch(lines[0])
    first = lines[1] if said else lines[0]
    used = delimiter or (
        said[1] if said else max(SEPARATORS, key=lambda one: len(_fields(first, one)))
    )

    def rows() -> Iterator[tuple[int, list[str]]]:
        with _opened(file, encoding) as stream:
            if said:
                stream.readline(MOST_CHARACTERS)
            for number, row in _rows(stream, file, used):
                yield number + bool(said), row

    names = _header([name.strip() for name in next(rows(), (1, []))[1]], file)

    def read(_wanted: Sequence[str]) -> Iterator[Record]:
        for place, (number, row) in enumerate(rows()):
            if place and any(cell.strip() for cell in row):
                _check_width(row, names, file, number)
                yield number, dict(zip(names, row, strict=True))

    return Table(file, names, read, spaced=True)


def tsv_table(file: Path) -> Table:
    """Open a UTF-8 file of tab-separated columns under a header, as AfriSenti has them.

    Quotation marks are characters like any other: a column ends at a tab, a row at the line's end.

    Raises
    ------
    DataError
        When the file is missing, empty or not UTF-8.
    """
    header = next(read_lines(file), "").split("\t")
    names = _header([name.strip() for name in header], file)

    def read(_wanted: Sequence[str]) -> Iterator[Record]:
        for number, line in enumerate(read_lines(file), start=1):
            if number > 1 and line.strip():
                row = line.split("\t")
                _check_width(row, names, file, number)
                yield number, dict(zip(names, row, strict=True))

    return Table(file, names, read, spaced=True)


def tab_table(file: Path) -> Table:
    """Open a ``.tsv`` file of which nothing is known: plain, or as spreadsheets write it.

    It is plain where each of its lines has as many tabs as its header.
    """
    check_file(file)
    if _marked(file) != "utf-16":
        try:
            tabs = {line.count("\t") for line in read_lines(file) if line.strip()}
            quoted = next(read_lines(file)).startswith('"')
        except DataError:
            return csv_table(file)
        if len(tabs) == 1 and tabs != {0} and not quoted:
            return tsv_table(file)
    return csv_table(file)


def _header(names: list[str], file: Path) -> tuple[str, ...]:
    if not any(names):
        raise DataError("there is no header; name the columns there", file=file, line=1)
    named = [name for name in names if name]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"two columns are called {shortened(twice, 60)!r}; rename one", file=file, line=1
        )
    # Spreadsheets leave columns without a name; nobody asks for those.
    return tuple(name or f"\0{place}" for place, name in enumerate(names))


def _check_width(row: list[str], names: Sequence[str], file: Path, number: int) -> None:
    if len(row) != len(names):
        known = shortened(", ".join(name for name in names if name[0] != "\0"), 200)
        raise DataError(
            f"expected {len(names)} columns ({known}), found {len(row)}", file=file, line=number
        )


def _fields(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _rows(stream: TextIO, file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give each row with the line that it begins on."""
    rows = csv.reader(_lines(stream, file), delimiter=delimiter, strict=True)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"no row of a table can be read here ({error}); save the table as CSV again",
                file=file,
                line=number,
            ) from None
        if row is None:
            return
        yield number, row


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """Give the lines that remain, none of them longer than text is: one is held whole."""
    number = 0
    while line := stream.readline(MOST_CHARACTERS):
        number += 1
        if len(line) == MOST_CHARACTERS and not line.endswith("\n"):
            message = f"the row has more than {MOST_CHARACTERS:,} characters; this is no table"
            raise DataError(message, file=file, line=number)
        yield line


def _marked(file: Path) -> str:
    with open_regular(file) as stream:
        first = stream.read(3)
    return next((name for mark, name in MARKS.items() if first.startswith(mark)), "utf-8")


@contextmanager
def _opened(file: Path, encoding: str) -> Iterator[TextIO]:
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        with open_regular(file) as stream, io.TextIOWrapper(stream, encoding, newline="") as text:
            yield text
    except UnicodeError:
        name = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"not {name}; save the table as UTF-8, or name its encoding (data.encoding)",
            file=file,
            line=_bad_line(file, encoding),
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None


def _bad_line(file: Path, encoding: str) -> int | None:
    """Give the first line that is not in the encoding; None where lines cannot be told apart."""
    with open_regular(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode(encoding.removesuffix("-sig"))
            except UnicodeDecodeError:
                return None if "16" in encoding or "32" in encoding else number
    return None
