"""What look-ups read that a file keeps in few bits and ONNX Runtime decodes when it loads it.

Small tables of embeddings, and the scales of large ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import NodeProto, TensorProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import names_read
from edgecompress.quantization.graphs.tracing import attribute

INTEGERS = frozenset({TensorProto.INT8, TensorProto.UINT8})
Tables = Mapping[str, Sequence[NodeProto]]
"""By the name that a look-up reads, the nodes that make the table, in their order."""
SCALES_INPUT = 2
"""Of ``com.microsoft.GatherBlockQuantized``."""


def decoded_tables(graph: Any) -> Tables:
    """Find what nodes make of constants alone: tables of integers, and scales of any kind.

    Parameters
    ----------
    graph : GraphProto
    """
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    readers: dict[str, set[int]] = {}
    for place, node in enumerate(graph.node):
        for name in names_read([node]):
            readers.setdefault(name, set()).add(place)
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "GatherBlockQuantized":
            table, integers = node.input[SCALES_INPUT], False
        elif node.op_type == "Gather" and attribute(node, "axis", 0) == 0:
            table, integers = node.input[0], True
        else:
            continue
        names, places, pending = {table}, set[int](), [table]
        while pending:
            made = makers.get(pending.pop())
            if made is not None and made not in places:
                places.add(made)
                pending += graph.node[made].input
                names |= {*graph.node[made].input}
        constants = names - makers.keys()
        inner = names - constants - {table}
        alone = all(readers[name] <= places for name in inner)
        small = not integers or any(types.get(name) in INTEGERS for name in constants)
        if places and alone and small and constants <= types.keys():
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
