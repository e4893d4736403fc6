"""What look-ups read that a file keeps in few bits and ONNX Runtime decodes when it loads it.

Small tables of embeddings, and the scales of large ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto, TensorProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.tracing import attribute
from edgecompress.quantization.graphs.wiring import Wiring

INTEGERS = frozenset({TensorProto.INT8, TensorProto.UINT8})
Tables = Mapping[str, Sequence[NodeProto]]
"""By the name that a look-up reads, the nodes that make the table, in their order."""
SCALES_INPUT = 2
"""Of ``com.microsoft.GatherBlockQuantized``."""


def decoded_tables(model: StoredModel) -> Tables:
    """Find what nodes make of constants alone: tables of integers, and scales of any kind."""
    graph, wiring = model.proto.graph, Wiring(model)
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "GatherBlockQuantized":
            table, integers = node.input[SCALES_INPUT], False
        elif node.op_type == "Gather" and attribute(node, "axis", 0) == 0:
            table, integers = node.input[0], True
        else:
            continue
        names, pending = {table}, [table]
        while pending:
            maker = wiring.makers.get(pending.pop())
            new = {*maker.input} - names if maker else set()
            names |= new
            pending += new
        made = names & wiring.makers.keys()
        readers = (each for name in made - {table} for each in wiring.readers[name])
        alone = all(made >= {*each.output} for each in readers)
        known = names - made <= wiring.tensors.keys()
        if made and alone and known:
            types = {wiring.tensors[name].data_type for name in names - made}
            if not integers or types & INTEGERS:
                found[table] = [each for each in graph.node if made & {*each.output}]
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
    """Have a model make the tables again that were taken out of `source`, its form before.

    Parameters
    ----------
    model : StoredModel
        Changed in place.
    source : StoredModel
        Has the constants still.
    tables : mapping
        As `decoded_tables` found them in `source`.
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
