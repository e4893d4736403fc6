"""What the inputs of an ONNX file are and may hold, read without its weights."""

from __future__ import annotations

from edgecompress.errors import DataError
from edgecompress.models.graph import GraphInput, graph_input
from edgecompress.models.graph_bounds import index_bounds
from edgecompress.models.storage import read_model
from edgecompress.values import OnnxModel, TensorSpec

ORT_NAMES = {"float32": "float", "float64": "double"}


def stored_id_bounds(model: OnnxModel) -> dict[str, int]:
    """`index_bounds` of a file, without reading its weights."""
    return index_bounds(read_model(model.path).proto)


def graph_specs(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Read the inputs of a file, named as a session would, without opening one.

    Raises
    ------
    DataError
        When one is no tensor, or does not say how many axes it has.
    """
    graph = read_model(model.path).proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    return tuple(_spec(graph_input(v), model) for v in graph.input if v.name not in weights)


def _spec(found: GraphInput, model: OnnxModel) -> TensorSpec:
    if found.kind != "tensor":
        raise DataError(
            f"input {found.name!r} is a {found.kind.replace('_', ' ')}, and only tensors can be "
            "given; export the model with plain tensors as inputs",
            file=model.path,
        )
    if found.shape is None:
        raise DataError(
            f"input {found.name!r} does not say how many axes it has; export the model with them",
            file=model.path,
        )
    dtype = f"tensor({ORT_NAMES.get(found.dtype, found.dtype)})"
    return TensorSpec(found.name, dtype, found.shape)
