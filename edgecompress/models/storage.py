"""Read an ONNX file without its weights in memory, and write one weight at a time.

`onnx.load` keeps a file and its parsed copy in memory, and every rewrite adds another. Here the
protobuf wire format is walked on a memory map: the graph is parsed, and each big initializer is
remembered by its place in the file. A weight is read when it is needed and dropped afterwards.

Source of the format: https://protobuf.dev/programming-guides/encoding and onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecompress.errors import DataError
from edgecompress.models.external_data import (
    DataPlace,
    attribute_tensors,
    bytes_of,
    external_place,
    place_constants,
)
from edgecompress.onnx_files import MappedModel, check_messages, fields, mapped
from edgecompress.reading import reading

# Field numbers of onnx.proto.
GRAPH_OF_MODEL = 7
INITIALIZER_OF_GRAPH = 5
RAW_DATA_OF_TENSOR = 9
BYTES_FIELD = 2
# Smaller tensors (shapes, scalars, biases of tiny layers) stay in the graph.
BIG_BYTES = 1024
# protobuf refuses messages of 2 GiB; room is left for the graph itself.
MOST_INLINE_BYTES = 2**31 - 2**26
COPY_BYTES = 1 << 20
# Page size, so that a runtime can map each tensor of an external file where it lies.
ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A graph in memory, its big initializers on disk.

    Attributes
    ----------
    proto : ModelProto
        Complete but for the data of the initializers that `places` names.
    places : dict of str to DataPlace
        By initializer name.
    """

    proto: ModelProto
    places: dict[str, DataPlace]

    def array(self, tensor: TensorProto) -> np.ndarray[Any, Any]:
        """Read the values of an initializer, from disk where they lie there.

        Returns
        -------
        ndarray
            Shape and dtype as the tensor says.
        """
        place = self.places.get(tensor.name)
        if place is None:
            found: np.ndarray[Any, Any] = numpy_helper.to_array(tensor)
            return found
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        count = place.length // dtype.itemsize
        read = np.fromfile(place.file, dtype, count, offset=place.offset)
        return read.reshape(tuple(tensor.dims))


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, length: int) -> bytes:
    return _encode_varint(number << 3 | BYTES_FIELD) + _encode_varint(length)


def parsed_model(path: Path) -> StoredModel:
    """Parse an ONNX file; big weights inside it and all external data stay where they are.

    Raises
    ------
    DataError
        When the file is missing, cut off, or no ONNX model.
    """
    if not path.exists():
        raise DataError("the model is missing", file=path)
    places: dict[str, DataPlace] = {}
    with reading(path, "not an ONNX model that can be read", (ValueError, RuntimeError)):
        check_messages(path)
        try:
            proto = _parsed(path, places)
        except DecodeError:
            size = path.stat().st_size
            raise DataError(
                f"not an ONNX model, or cut off ({size} bytes that cannot be decoded)", file=path
            ) from None
    if not proto.opset_import and not proto.functions:
        raise DataError("the model is cut off (it names no operator set)", file=path)
    return StoredModel(proto, places)


def _parsed(path: Path, places: dict[str, DataPlace]) -> ModelProto:
    tensors: list[TensorProto] = []
    model_parts: list[bytes] = []
    graph_parts: list[bytes] = []
    with mapped(path) as data:
        for number, _, start, first, end in fields(data, 0, len(data)):
            if number != GRAPH_OF_MODEL:
                model_parts.append(data[start:end])
                continue
            for inner, _, begin, at, last in fields(data, first, end):
                if inner == INITIALIZER_OF_GRAPH:
                    tensors.append(_tensor(data, at, last, path, places))
                else:
                    graph_parts.append(data[begin:last])
    proto = ModelProto()
    proto.ParseFromString(b"".join(model_parts))
    proto.graph.ParseFromString(b"".join(graph_parts))
    proto.graph.initializer.extend(tensors)
    return proto


def _tensor(
    data: MappedModel, at: int, end: int, path: Path, places: dict[str, DataPlace]
) -> TensorProto:
    kept: list[bytes] = []
    place = None
    for number, _, begin, first, last in fields(data, at, end):
        if number == RAW_DATA_OF_TENSOR and last - first > BIG_BYTES:
            place = DataPlace(path, first, last - first)
        else:
            kept.append(data[begin:last])
    tensor = TensorProto()
    tensor.ParseFromString(b"".join(kept))
    if place is not None:
        places[tensor.name] = place
    return tensor


def read_model(path: Path) -> StoredModel:
    """Parse the graph of `path` and note where its big initializers lie, external ones included.

    Raises
    ------
    DataError
        When the file is missing or no ONNX model, or its external data lie elsewhere.
    """
    stored = parsed_model(path)
    proto, places = stored.proto, dict(stored.places)
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            places[tensor.name] = external_place(tensor, path)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    place_constants(proto, path, places)
    for tensor in attribute_tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = bytes_of(external_place(tensor, path))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return StoredModel(proto, places)


def write_model(model: StoredModel, path: Path) -> None:
    """Write `model` to `path`, streaming the weights that lie on disk.

    Up to 2 GiB it is one file; beyond, big weights go to ``<name>.data`` beside it. The graph's
    own initializers are written one by one, so no second copy of the model is made.
    """
    whole = model.proto
    tensors = list(whole.graph.initializer)
    places = {t.name: model.places[t.name] for t in tensors if t.name in model.places}
    total = sum(p.length for p in places.values()) + sum(len(t.raw_data) for t in tensors)
    graph = type(whole.graph)()
    for field, value in whole.graph.ListFields():
        if field.name != "initializer":
            _copy_field(graph, field, value)
    rest = ModelProto()
    for field, value in whole.ListFields():
        if field.name != "graph":
            _copy_field(rest, field, value)
    if total > MOST_INLINE_BYTES:
        tensors = _write_external(model, tensors, path.with_name(path.name + ".data"))
        places = {}
    body = graph.SerializeToString()
    sizes = []
    for tensor in tensors:
        size = tensor.ByteSize()
        if tensor.name in places:
            length = places[tensor.name].length
            size += len(_bytes_field(RAW_DATA_OF_TENSOR, length)) + length
        sizes.append(size)
    size = len(body) + sum(len(_bytes_field(INITIALIZER_OF_GRAPH, s)) + s for s in sizes)
    with path.open("wb") as out:
        out.write(rest.SerializeToString())
        out.write(_bytes_field(GRAPH_OF_MODEL, size))
        out.write(body)
        for tensor, tensor_size in zip(tensors, sizes, strict=True):
            out.write(_bytes_field(INITIALIZER_OF_GRAPH, tensor_size))
            out.write(tensor.SerializeToString())
            if tensor.name in places:
                place = places[tensor.name]
                out.write(_bytes_field(RAW_DATA_OF_TENSOR, place.length))
                _copy(place, out)


def _copy_field(target: Any, field: Any, value: Any) -> None:
    if field.message_type is None and not isinstance(value, (str, bytes, int, float)):
        getattr(target, field.name).extend(value)
    elif field.message_type is None:
        setattr(target, field.name, value)
    elif hasattr(value, "extend"):
        getattr(target, field.name).extend(value)
    else:
        getattr(target, field.name).CopyFrom(value)


def _copy(place: DataPlace, out: BinaryIO) -> None:
    with place.file.open("rb") as stream:
        stream.seek(place.offset)
        left = place.length
        while left:
            chunk = stream.read(min(left, COPY_BYTES))
            if not chunk:
                raise DataError("the model's file ends too early", file=place.file)
            out.write(chunk)
            left -= len(chunk)


def _write_external(
    model: StoredModel, tensors: list[TensorProto], data: Path
) -> list[TensorProto]:
    written = []
    with data.open("wb") as out:
        for tensor in tensors:
            place = model.places.get(tensor.name)
            if place is None and len(tensor.raw_data) <= BIG_BYTES:
                written.append(tensor)
                continue
            out.write(b"\0" * (-out.tell() % ALIGNMENT))
            start = out.tell()
            if place is None:
                out.write(tensor.raw_data)
            else:
                _copy(place, out)
            moved = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            moved.data_location = TensorProto.EXTERNAL
            entries = {"location": data.name, "offset": start, "length": out.tell() - start}
            for key, value in entries.items():
                moved.external_data.add(key=key, value=str(value))
            written.append(moved)
    return written
