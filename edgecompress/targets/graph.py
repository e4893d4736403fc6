"""What an ONNX file says of itself, read without its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.values import OnnxModel, TensorSpec


def load_graph(path: Path) -> Any:
    """Read the graph of an ONNX file; its external data stays on disk.

    Returns
    -------
    onnx.GraphProto

    Raises
    ------
    DataError
        When the file is missing or no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except FileNotFoundError:
        raise DataError("the model is missing", file=path) from None
    except (DecodeError, OSError) as error:
        raise DataError(f"not an ONNX model ({error})", file=path) from None
    if not graph.node:
        raise DataError("not an ONNX model (the graph is empty)", file=path)
    return graph


def tensors(graph: Any) -> Iterator[Any]:
    """Walk over all tensors of a graph, those of its nodes' attributes and subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


def external_files(path: Path) -> tuple[str, ...]:
    """Name the external data files of an ONNX model, relative to its folder, sorted."""
    found = {
        entry.value
        for tensor in tensors(load_graph(path))
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(sorted(found))


def signature(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Read a graph's inputs from its file.

    Raises
    ------
    DataError
        When the file is missing, no ONNX model, or wants something other than tensors.
    """
    import onnx

    graph = load_graph(model.path)
    weights = {found.name for found in graph.initializer}
    specs = []
    for value in graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise DataError(f"input {value.name!r} is not a tensor", file=model.path)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        shape = tuple(
            size.dim_value if size.HasField("dim_value") else size.dim_param or "?"
            for size in kind.shape.dim
        )
        specs.append(TensorSpec(value.name, dtype, shape))
    return tuple(specs)
