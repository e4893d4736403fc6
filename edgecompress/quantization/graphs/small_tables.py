"""Tables of embeddings that a file keeps in few bits and ONNX Runtime decodes when it loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import NodeProto, TensorProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.tracing import attribute

INTEGERS = frozenset({TensorProto.INT8, TensorProto.UINT8})
Tables = Mapping[str, Sequence[NodeProto]]
"""By the name that a Gather reads, the nodes that make the table, in their order."""


def decoded_tables(graph: Any) -> Tables:
    """Find the tables that nodes make of constants alone, of integers among them.

    Parameters
    ----------
    graph : GraphProto
    """
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    found: dict[str, list[NodeProto]] = {}
    for reader in graph.node:
        if reader.op_type != "Gather" or attribute(reader, "axis", 0) != 0:
            continue
        table, places, constants = reader.input[0], set[int](), set[str]()
        pending = [table]
        while pending:
            name = pending.pop()
            if name in makers:
                if makers[name] not in places:
                    places.add(makers[name])
                    pending += graph.node[makers[name]].input
            else:
                constants.add(name)
        integers = {name for name in constants if types.get(name) in INTEGERS}
        if places and integers and constants <= types.keys():
            found[table] = [graph.node[place] for place in sorted(places)]
    return found


def stored_bits(nodes: Sequence[NodeProto]) -> int:
    """Give how many bits a value of such a table takes in the file: 4 where bytes are shifted."""
    return 4 if any(node.op_type == "BitShift" for node in nodes) else 8


def take_out(model: StoredModel, tables: Tables) -> None:
    """Have a model take such tables as inputs, so that an optimizer leaves them as they are.

    Parameters
    ----------
    model : StoredModel
        Changed in place.
    tables : mapping
        As `decoded_tables` finds them in it.
    """
    graph = model.proto.graph
    made = {name for nodes in tables.values() for node in nodes for name in node.output}
    kept = [node for node in graph.node if not made & {*node.output}]
    graph.ClearField("node")
    graph.node.extend(kept)
    for name in tables:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}:0", f"{name}:1"])
        graph.input.append(value)


def put_back(model: StoredModel, source: StoredModel, tables: Tables) -> None:
    """Have a model make the tables again that were taken out of `source`.

    Parameters
    ----------
    model : StoredModel
        Changed in place.
    source : StoredModel
        Has the constants.
    tables : mapping
        As `decoded_tables` finds them in `source`.
    """
    graph = model.proto.graph
    nodes = {node.output[0]: node for made in tables.values() for node in made}
    inputs = [value for value in graph.input if value.name not in tables]
    behind = list(graph.node)
    for field, values in (("input", inputs), ("node", [*nodes.values(), *behind])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    known = {tensor.name for tensor in graph.initializer}
    read = {name for node in nodes.values() for name in node.input} - known
    graph.initializer.extend(t for t in source.proto.graph.initializer if t.name in read)
    model.places.update({name: source.places[name] for name in read & source.places.keys()})
