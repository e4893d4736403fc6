"""Which files belong to an ONNX model: the external data that it names, read without ``onnx``.

The base install has no ``onnx`` package, and a bundle is not trusted before it is opened; this
walks the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) along the few
fields of ``onnx.proto`` in which a tensor can lie, without loading a weight.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgecompress.errors import DataError
from edgecompress.reading import open_regular
from edgecompress.values import Model, OnnxModel, directory_digests, file_digest

# Message -> field number -> message of that field; numbers from onnx/onnx.proto.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry"},
}
MOST_MESSAGES = 3_000_000
"""Nodes, tensors and names of a model, its largest part by far that protobuf builds in memory; the
graph of a large language model has some ten thousand. A file of empty ones has a thousand times as
many to the megabyte."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_DEPTH = 100  # protobuf's own limit on nested messages
_MOST_FIELDS = 4_000_000
"""Fields that are read of one file: some seconds. Real models have some thousands; a small file of
nothing but fields would take minutes."""


class MappedModel(mmap.mmap):
    """A mapped file, which counts the fields that may still be read of it."""

    fields_left = _MOST_FIELDS


@contextlib.contextmanager
def mapped(model: Path) -> Iterator[MappedModel]:
    """Map an ONNX file to read its messages; weights inside it cost no memory.

    Raises
    ------
    DataError
        When the file is empty or, while it is read, turns out to be no protobuf message.
    """
    with open_regular(model) as stream:
        try:
            view = MappedModel(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise DataError("not an ONNX model: the file is empty", file=model) from None
        with view:
            try:
                yield view
            except (ValueError, IndexError) as error:
                raise DataError(f"not an ONNX model ({error})", file=model) from None


def external_data(model: Path) -> tuple[str, ...]:
    """Give the locations that the tensors of an ONNX file name, sorted, as they are written.

    Parameters
    ----------
    model : Path
        An ONNX file. It is mapped, not read: weights inside it cost no memory.

    Raises
    ------
    DataError
        When the file is empty or no protobuf message.
    """
    with mapped(model) as view:
        return tuple(sorted(set(_locations(view, 0, len(view), "model", 0))))


def check_messages(model: Path) -> None:
    """Count what a parser would build of an ONNX file, before one does; weights are passed over.

    Raises
    ------
    DataError
        When the file is empty, no protobuf message, or has more than `MOST_MESSAGES` parts.
    """
    counter = itertools.count(1)
    with mapped(model) as view:
        _count(view, 0, len(view), "model", 0, counter)


def _count(
    data: MappedModel, start: int, end: int, message: str, depth: int, counter: Iterator[int]
) -> None:
    if depth > _DEPTH:
        raise ValueError("messages nested too deeply")
    for number, first, last in length_fields(data, start, end):
        if next(counter) > MOST_MESSAGES:
            raise ValueError(f"it has more than {MOST_MESSAGES:,} parts")
        kind = _FIELDS[message].get(number)
        if kind and kind not in ("entry", "tensor", "sparse"):
            _count(data, first, last, kind, depth + 1, counter)


def onnx_model_files(model: Path) -> tuple[Path, ...]:
    """Give an ONNX file and its external data; neighbours in its folder are none of it.

    Raises
    ------
    DataError
        When the file is no protobuf message, or names external data outside its folder.
    """
    names = external_data(model)
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise DataError(f"its external data {name!r} lies outside its folder", file=model)
    return (model, *(model.parent / name for name in names))


def model_digests(model: Model) -> dict[str, str]:
    """SHA-256 of each file of a model, by its name; what else lies in a foreign folder is left out.

    Raises
    ------
    DataError
        When a file is missing or no model.
    """
    if not isinstance(model, OnnxModel):
        return directory_digests(model.directory)
    if model.parts:
        return {
            f"{name}/{file}": digest
            for name, part in model.parts
            for file, digest in model_digests(part).items()
        }
    try:
        files = onnx_model_files(model.path)
        return {file.relative_to(model.directory).as_posix(): file_digest(file) for file in files}
    except OSError as error:
        file = Path(error.filename or model.path)
        raise DataError(
            f"cannot be read ({error.strerror}), and the model needs it", file=file
        ) from None


def _locations(data: MappedModel, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError("messages nested too deeply")
    for number, first, last in length_fields(data, start, end):
        kind = _FIELDS[message].get(number)
        if kind == "entry":
            pair = {key: data[a:b] for key, a, b in length_fields(data, first, last)}
            if pair.get(1) == b"location":
                yield pair.get(2, b"").decode("utf-8")
        elif kind:
            yield from _locations(data, first, last, kind, depth + 1)


def model_versions(model: Path) -> tuple[int, int]:
    """Give the version of the ONNX format and of the standard operators that a model wants.

    Returns
    -------
    ir_version, opset : int
        0 where the file does not say.

    Raises
    ------
    DataError
        When the file is empty or no protobuf message.
    """
    ir_version = opset = 0
    with mapped(model) as view:
        for number, wire, _, first, last in fields(view, 0, len(view)):
            if (number, wire) == (1, _VARINT):
                ir_version = first
            elif (number, wire) == (8, _LENGTH):
                said = {n: (a, b) for n, _, _, a, b in fields(view, first, last)}
                if view[slice(*said.get(1, (0, 0)))] in (b"", b"ai.onnx"):
                    opset = said.get(2, (0, 0))[0]
    return ir_version, opset


def length_fields(data: MappedModel, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give (field number, first byte, byte after the last) of each length-delimited field."""
    for number, wire, _, first, last in fields(data, start, end):
        if wire == _LENGTH:
            yield number, first, last


def fields(data: MappedModel, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk over the fields of the message that lies between two bytes.

    Yields
    ------
    number, wire, begin, first, last : int
        The field's number and wire type; where it begins, where its content begins (of a varint:
        its value) and where it ends.
    """
    position = start
    while position < end:
        begin = position
        tag, position = _varint(data, position)
        wire = tag & 7
        data.fields_left -= 1
        if not tag >> 3 or data.fields_left < 0:
            what = "a field without a number" if not tag >> 3 else "more fields than a model has"
            raise ValueError(f"{what} at byte {position}")
        if wire == _LENGTH:
            length, first = _varint(data, position)
            position = first + length
            if position > end:
                raise ValueError("a field is cut off")
            yield tag >> 3, wire, begin, first, position
        elif wire == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, wire, begin, value, position
        elif wire in (_FIXED64, _FIXED32):
            first, position = position, position + (8 if wire == _FIXED64 else 4)
            yield tag >> 3, wire, begin, first, position
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
    if position != end:
        raise ValueError("a field is cut off")


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):  # a varint has at most ten bytes
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number without end at byte {position}")
