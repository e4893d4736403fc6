"""What an ONNX file says of itself, read once and without its weights.

Everything is found through nested control flow (If, Loop, Scan) and local functions too.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.models.graph_bounds import index_bounds
from edgecompress.models.specs import named_size, numpy_name
from edgecompress.values import OnnxModel, TensorSpec


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input that a graph must be given.

    Attributes
    ----------
    name : str
    kind : str
        ``tensor``, ``sequence``, ``optional``, ``map`` or ``sparse_tensor``.
    dtype : str
        Of a tensor: numpy's name, or ONNX's own where numpy has none (``bfloat16``, ``string``).
    shape : tuple of int or str, or None
        An open size is its symbol, or ``input.axis`` where it has none; None where even the
        number of axes is open.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """A kind of node that a graph has, and one node of it."""

    domain: str
    name: str
    node: str

    def __str__(self) -> str:
        return f"{self.domain or 'ai.onnx'}::{self.name}"


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What is known of a graph.

    Attributes
    ----------
    inputs : tuple of GraphInput
        Without those that have a default (an initializer of the same name).
    operators : tuple of Operator
        Each kind of node once, local functions left out, sorted.
    external : dict of str to int
        External data files, relative to the graph's folder, and how many bytes each must have at
        least.
    index_bounds : dict of str to int
        Of inputs whose values are used as indices: how many values are allowed, from 0.
    """

    inputs: tuple[GraphInput, ...]
    operators: tuple[Operator, ...]
    external: Mapping[str, int]
    index_bounds: Mapping[str, int]


def load_model(path: Path) -> Any:
    """Read an ONNX file; big weights inside it and all external data stay on disk.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    DataError
        When the file is missing or no ONNX model.
    """
    from edgecompress.models.storage import parsed_model

    model = parsed_model(path).proto
    if not model.graph.node:
        raise DataError("not an ONNX model (the graph is empty)", file=path)
    return model


def load_graph(path: Path) -> Any:
    """Read the graph of an ONNX file; see `load_model`.

    Returns
    -------
    onnx.GraphProto
    """
    return load_model(path).graph


def all_nodes(graph: Any) -> Iterator[Any]:
    """Walk over all nodes of a graph or a local function, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def tensors(graph: Any) -> Iterator[Any]:
    """Walk over all tensors of a graph, those of its nodes' attributes and subgraphs included."""
    yield from getattr(graph, "initializer", ())  # a local function has none
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


def graph_facts(path: Path) -> GraphFacts:
    """Say what is known of an ONNX file; read once as long as it does not change.

    Raises
    ------
    DataError
        When the file is missing or no ONNX model.
    """
    try:
        status = path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "is missing" if missing else f"cannot be read ({error.strerror})"
        raise DataError(f"the model {why}", file=path) from None
    return _facts(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _facts(path: Path, _changed_ns: int, _size: int) -> GraphFacts:
    model = load_model(path)
    graph = model.graph
    defaults = {found.name for found in graph.initializer}
    defaults |= {found.values.name for found in graph.sparse_initializer}
    return GraphFacts(
        tuple(graph_input(value) for value in graph.input if value.name not in defaults),
        _operators(model),
        _external(model),
        index_bounds(model),
    )


def graph_input(value: Any) -> GraphInput:
    """Read an input of a graph (`onnx.ValueInfoProto`); an open size may be written as -1."""
    kind = (value.type.WhichOneof("value") or "undefined_type").removesuffix("_type")
    if kind != "tensor":
        return GraphInput(value.name, kind, "", None)
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            named_size(
                value.name, axis, size.dim_value if size.HasField("dim_value") else size.dim_param
            )
            for axis, size in enumerate(tensor.shape.dim)
        )
    return GraphInput(value.name, kind, _dtype(tensor.elem_type), shape)


def _dtype(kind: int) -> str:
    import onnx

    known = onnx.TensorProto.DataType.values()
    name = onnx.TensorProto.DataType.Name(kind).lower() if kind in known else f"number {kind}"
    return numpy_name(name) if kind else "undefined"


def _operators(model: Any) -> tuple[Operator, ...]:
    own = {(function.domain, function.name) for function in model.functions}
    found: dict[tuple[str, str], str] = {}
    for body in (model.graph, *model.functions):
        for node in all_nodes(body):
            domain = "" if node.domain == "ai.onnx" else node.domain
            if (node.domain, node.op_type) not in own:
                found.setdefault((domain, node.op_type), node.name)
    return tuple(Operator(*key, found[key]) for key in sorted(found))


def _whole(text: str | None) -> int:
    """Read a number of bytes as external data state it; what is none counts as 0."""
    return int(text) if text and text.isdecimal() and len(text) < 19 else 0


def _external(model: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in itertools.chain(*map(tensors, (model.graph, *model.functions))):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "location" in entries:
            end = sum(_whole(entries.get(key)) for key in ("offset", "length"))
            found[entries["location"]] = max(found.get(entries["location"], 0), end)
    return found


def signature(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Read a graph's inputs from its file.

    Raises
    ------
    DataError
        When the file is missing, no ONNX model, or wants something other than tensors, or an
        input leaves open how many axes it has.
    """
    specs = []
    for found in tensor_inputs(model.path):
        if found.shape is None:
            raise DataError(
                f"input {found.name!r} does not say how many axes it has; "
                "give the inputs as an .npz file",
                file=model.path,
            )
        specs.append(TensorSpec(found.name, found.dtype, found.shape))
    return tuple(specs)


def tensor_inputs(path: Path) -> tuple[GraphInput, ...]:
    """Give the inputs of a graph, all of which are tensors.

    Raises
    ------
    DataError
        When one is something else.
    """
    inputs = graph_facts(path).inputs
    for found in inputs:
        if found.kind != "tensor":
            raise DataError(
                f"input {found.name!r} is {_article(found.kind)}, and only tensors can be given; "
                "export the model with plain tensors as inputs",
                file=path,
            )
    return inputs


def _article(kind: str) -> str:
    words = kind.replace("_", " ")
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
