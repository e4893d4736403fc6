"""Bytes of a model's tensors that lie in other files: always looked for beside the model.

Not only the graph's own weights may lie there, but also the values of attributes and the weights of
inner graphs. A reader that leaves these to another takes them from the working directory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper
from onnx.external_data_helper import ExternalDataInfo

from edgecompress.errors import DataError

# The first file format whose initializers need not be inputs, too.
LEAST_IR = 4


@dataclass(frozen=True, slots=True)
class DataPlace:
    """Where the bytes of a tensor lie."""

    file: Path
    offset: int
    length: int


def attribute_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model but the graph's own initializers.

    Those of attributes (a Constant's value), of graphs inside (the branches of an If, the body of a
    Loop), of sparse initializers and of functions.
    """
    nodes = [*proto.graph.node, *(node for f in proto.functions for node in f.node)]
    sparse = list(proto.graph.sparse_initializer)
    while nodes:
        for found in nodes.pop().attribute:
            yield from (found.t, *found.tensors) if found.HasField("t") else found.tensors
            sparse += [found.sparse_tensor] if found.HasField("sparse_tensor") else []
            sparse += found.sparse_tensors
            for inner in (found.g, *found.graphs) if found.HasField("g") else found.graphs:
                nodes += inner.node
                sparse += inner.sparse_initializer
                yield from inner.initializer
    for one in sparse:
        yield from (one.values, one.indices)


def place_constants(proto: ModelProto, path: Path, places: dict[str, DataPlace]) -> None:
    """Turn Constants whose values lie in another file into initializers, which are streamed."""
    if proto.ir_version < LEAST_IR:
        return
    kept = []
    for node in proto.graph.node:
        given = node.attribute[0] if len(node.attribute) == 1 else None
        if (
            node.op_type == "Constant"
            and given is not None
            and given.name == "value"
            and given.t.data_location == TensorProto.EXTERNAL
        ):
            name = node.output[0]
            places[name] = external_place(given.t, path)
            proto.graph.initializer.add(name=name, data_type=given.t.data_type, dims=given.t.dims)
        else:
            kept.append(node)
    if len(kept) < len(proto.graph.node):
        del proto.graph.node[:]
        proto.graph.node.extend(kept)


def external_place(tensor: TensorProto, path: Path) -> DataPlace:
    """Find the bytes of a tensor that the model at `path` keeps in another file.

    Raises
    ------
    DataError
        When that file lies outside the model's folder, is missing, or is too short.
    """
    try:
        info = ExternalDataInfo(tensor)
    except (ValueError, TypeError) as error:
        told = f"the external data of {tensor.name} are described wrongly ({error})"
        raise DataError(told, file=path) from None
    file = path.parent / info.location
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise DataError(f"external data outside the model's folder: {info.location}", file=path)
    if not file.is_file():
        raise DataError(
            f"its external data {info.location!r} are missing; copy that file beside it", file=path
        )
    offset = info.offset or 0
    length = info.length if info.length is not None else _bytes_needed(tensor)
    if length is None:
        length = file.stat().st_size - offset
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise DataError(
            f"its external data {info.location!r} end before those of {tensor.name}; copy the "
            "model again",
            file=path,
        )
    return DataPlace(file, offset, length)


def _bytes_needed(tensor: TensorProto) -> int | None:
    """Bytes that the shape asks for; None where numbers are packed or of no known type."""
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        return None
    packed = dtype.itemsize == 1 and dtype.isbuiltin != 1  # such as int4, two to a byte
    return None if packed else dtype.itemsize * math.prod(tensor.dims)


def bytes_of(place: DataPlace) -> bytes:
    """Read them."""
    with place.file.open("rb") as stream:
        stream.seek(place.offset)
        return stream.read(place.length)
