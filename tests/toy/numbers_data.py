"""A data format of a third party: a class and its readings on a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edgecompress.data import FileData
from edgecompress.errors import DataError
from edgecompress.textfiles import read_lines
from edgecompress.values import Example

CHANNELS = 2


class NumbersData(FileData):
    """Lines of a class and its numbers: ``rising 0.1 0.2 …``."""

    format: Literal["numbers"] = "numbers"

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        for number, line in enumerate(read_lines(file), start=1):
            label, *readings = line.split()
            try:
                flat = [float(one) for one in readings]
            except ValueError:
                raise DataError("a reading is no number", file=file, line=number) from None
            steps = zip(*[iter(flat)] * CHANNELS, strict=True)
            yield Example({"values": tuple(steps)}, label, source)

    def label_line(self, file: Path, label: str) -> int | None:
        lines = enumerate(read_lines(file), start=1)
        return next((number for number, line in lines if line.split()[0] == label), None)
