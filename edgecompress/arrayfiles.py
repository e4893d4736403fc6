"""Arrays in ``.npz`` and ``.npy`` files of a stranger, measured by their headers before reading.

numpy believes what a header says and inflates what a zip holds. Here a file is opened only if it is
a regular one, its headers are read first, and what they claim is held against what is there.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from edgecompress.errors import DataError
from edgecompress.reading import PARSER_FAULTS, open_regular, reading
from edgecompress.words import shortened

Array = np.ndarray[Any, Any]

MOST_BYTES = 256 * 2**20
"""What the arrays of a file may take when they are unpacked, however small the file is."""
MOST_GROWTH = 20
"""How much larger than the file they may be beyond that: token ids pack to an eighth, and only what
is the same everywhere packs to less than a twentieth. A file without compression has no bound."""
MOST_LIST_BYTES = 8 * 2**20
"""Of a zip's list of members, each of which takes some ten times as much in memory: a hundred
thousand arrays."""
_LAST_RECORD = 22  # bytes of the record that ends a zip, without its comment
MAGIC = b"\x93NUMPY"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes; others unpack unbounded
_ENCRYPTED = 0x1  # bit of a zip member's flags


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file, of which only the header was read so far.

    Attributes
    ----------
    file : Path
    member : str or None
        The zip's member; None in a ``.npy`` file.
    shape : tuple of int
    dtype : numpy.dtype
    fortran : bool
        The first axis varies fastest.
    """

    file: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def name(self) -> str:
        """What the array is called."""
        return self.member.removesuffix(".npy") if self.member else self.file.stem

    @property
    def nbytes(self) -> int:
        """Bytes of all its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, *, whole: bool = False) -> Iterator[Array]:
        """Give the entries of the first axis one by one, or the whole array as one.

        Only one is in memory, except where the first axis varies fastest.

        Raises
        ------
        DataError
            When the file ends too early or is damaged.
        """
        with open_regular(self.file) as outer:
            if self.member is None:
                yield from self._entries(outer, whole)
                return
            with zipfile.ZipFile(outer) as archive, archive.open(self.member) as stream:
                yield from self._entries(stream, whole)

    def _entries(self, stream: Any, whole: bool) -> Iterator[Array]:
        """Give what `rows` does from a file or member that is open at its first byte."""
        name = shortened(self.name, 60)
        single = whole or self.fortran
        count, shape = (1, self.shape) if single else (self.shape[0], self.shape[1:])
        size = math.prod(shape) * self.dtype.itemsize
        with reading(self.file, f"array {name} is damaged", PARSER_FAULTS):
            _header(stream, name)
            for _ in range(count):
                data = stream.read(size)
                if len(data) < size:
                    raise DataError(f"array {name} is cut off or damaged", file=self.file)
                read = np.frombuffer(data, self.dtype).reshape(
                    shape, order="F" if self.fortran else "C"
                )
                if self.fortran and not whole:
                    yield from read
                else:
                    yield read


def stored_arrays(file: Path) -> dict[str, StoredArray]:
    """Read the headers of a ``.npz`` or, by its first bytes, a ``.npy`` file (named by its stem).

    Raises
    ------
    DataError
        Naming the file, and the array where one is at fault: no such file, cut off, Python objects,
        or more than `MOST_BYTES` and `MOST_GROWTH` allow.
    """
    with reading(file, f"not an {file.suffix} file, or cut off; write one with numpy.savez",
                 PARSER_FAULTS), open_regular(file) as stream:  # fmt: skip
        size = stream.seek(0, 2)
        stream.seek(0)
        if stream.peek(len(MAGIC))[: len(MAGIC)] == MAGIC:
            found = _measured(stream, file, None, size)
            return {found.name: found}
        _check_members(stream, size)
        arrays: dict[str, StoredArray] = {}
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                name = shortened(entry.filename.removesuffix(".npy"), 60)
                if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
                    raise DataError(f"array {name} is packed in a way that numpy does not use")
                with archive.open(entry) as inner:
                    one = _measured(inner, file, entry.filename, entry.file_size)
                if one.name in arrays:
                    raise DataError(f"array {name} stands twice in the file")
                arrays[one.name] = one
        total = sum(one.nbytes for one in arrays.values())
        if total > max(MOST_BYTES, MOST_GROWTH * size):
            raise DataError(
                f"the file's {size / 1e6:.1f} MB would unpack to {total / 1e6:,.0f} MB; write it "
                "without compression (numpy.savez)"
            )
        return arrays


def read_arrays(file: Path) -> dict[str, Array]:
    """Read all arrays of a ``.npz`` file, if they are no more than `stored_arrays` allows.

    Raises
    ------
    DataError
        As `stored_arrays`, and where an array is damaged.
    """
    found = stored_arrays(file)
    arrays = {}
    with (
        reading(file, faults=PARSER_FAULTS),
        open_regular(file) as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        for name, stored in found.items():
            with archive.open(str(stored.member)) as inner:
                arrays[name] = next(stored._entries(inner, whole=True))
    return arrays


def _measured(stream: Any, file: Path, member: str | None, size: int) -> StoredArray:
    """Read a header, and hold it against the `size` bytes that there are with it."""
    label = member.removesuffix(".npy") if member else file.stem
    shape, fortran, dtype = _header(stream, label)
    found = StoredArray(file, member, shape, dtype, fortran)
    if found.nbytes > size - stream.tell():
        raise DataError(
            f"array {shortened(label, 60)} is cut off: its header says {_count(found.nbytes)} "
            f"bytes, and there are {size - stream.tell():,}",
            file=file,
        )
    return found


def _check_members(stream: Any, size: int) -> None:
    """Hold what a zip says of its list of members against what is built of it, before it is.

    The last record of a zip (APPNOTE.TXT, 4.3.16) gives the bytes of the list; one that is too long
    for it stands in another record, and no such file is of numpy's.
    """
    stream.seek(max(size - _LAST_RECORD - 65_535, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    stated = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if stated > MOST_LIST_BYTES or b"PK\6\6" in tail:
        raise DataError(f"its list of arrays has more than {MOST_LIST_BYTES:,} bytes")
    stream.seek(0)


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**15 else "far too many"


def _header(stream: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and dtype, as far as they are those of plain elements."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"array {shortened(name, 60)}: unknown version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(f"array {shortened(name, 60)} holds Python objects; save numbers")
    if any(size < 0 or isinstance(size, bool) for size in shape):
        raise ValueError(f"array {shortened(name, 60)}: a size of {min(shape)}")
    if dtype.names or dtype.subdtype or not dtype.itemsize:
        raise DataError(f"array {shortened(name, 60)} holds no numbers but {dtype.str}")
    return shape, fortran, dtype
