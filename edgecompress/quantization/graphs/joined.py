"""Products of the same input as one: queries, keys and values, and the two of a gated network.

For a single token a product is short, and what surrounds it counts: the rounding of its input, what
its offsets add, the reshapes before attention. `GroupQueryAttention` takes queries, keys and values
side by side as they come out of one product; the two of a gated network are parted behind it, and
`folding.py` finds the columns of each. Every column is computed as before.
Source: ``docs/ContribOperators.md`` of ONNX Runtime, "packed QKV".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgecompress.models.external_data import DataPlace
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.wiring import Wiring, node, put_constant, replace_nodes

QUERIES = 3
"""Inputs of the kernel that become one: queries, keys, values."""
FLAT = 3
"""Axes of what a product gives and the kernel takes: (batch, length, width)."""


def join_products(model: StoredModel, folder: Path) -> int:
    """Join products of the same input in a decoder whose attentions are kernels, in place.

    Parameters
    ----------
    model : StoredModel
    folder : Path
        Where the joined weights lie until the graph is written; made here.

    Returns
    -------
    int
        How many products are left of those that were joined.
    """
    nodes, wiring = list(model.proto.graph.node), Wiring(model)
    places = {name: number for number, each in enumerate(nodes) for name in each.output if name}
    made: dict[int, list[NodeProto]] = {}
    gone: set[int] = set()
    kernels = [each for each in nodes if each.op_type == "GroupQueryAttention"]
    for each in kernels:
        _skip_reshapes(each, wiring)
        parts = [_product(name, wiring) for name in each.input[:QUERIES]]
        products = [one for one in parts if one is not None]
        if len(products) == QUERIES and _alike(products, wiring):
            new = _joined(model, products, wiring, folder)
            made[places[each.output[0]]] = new
            each.input[0], each.input[1], each.input[2] = new[-1].output[0], "", ""
            gone |= {places[one.output[0]] for one in products}
    for pair in _pairs(nodes, wiring, gone) if kernels else ():
        new = _joined(model, pair, wiring, folder)
        stem, outputs = new[-1].output[0], [one.output[0] for one in pair]
        sizes = np.array([wiring.tensors[one.input[1]].dims[1] for one in pair], np.int64)
        inputs = [stem, put_constant(model, f"{stem}_sizes", sizes)]
        new.append(helper.make_node("Split", inputs, outputs, f"{stem}_Split", axis=-1))
        numbers = {places[name] for name in outputs}
        made[min(numbers)] = new
        gone |= numbers
    replace_nodes(model, made, gone)
    return len(made)


def _product(name: str, wiring: Wiring) -> NodeProto | None:
    """Give the product that a tensor is the values of, in the same order and read by none else."""
    while (each := wiring.made_by(name, "Reshape", "MatMul")) is not None:
        if wiring.only_reader(each.output[0], "Reshape", "GroupQueryAttention") is None:
            return None
        if each.op_type == "MatMul":
            return each
        name = each.input[0]
    return None


def _pairs(nodes: Sequence[NodeProto], wiring: Wiring, gone: set[int]) -> list[list[NodeProto]]:
    """Give the products, two or more, of each input that are left."""
    by_input: dict[str, list[NodeProto]] = {}
    for number, each in enumerate(nodes):
        if each.op_type == "MatMul" and number not in gone:
            by_input.setdefault(each.input[0], []).append(each)
    return [each for each in by_input.values() if len(each) > 1 and _alike(each, wiring)]


def _alike(products: Sequence[NodeProto], wiring: Wiring) -> bool:
    """Whether products have one input, and weights of their own."""
    weights = [wiring.tensors.get(one.input[1]) for one in products]
    return len({one.input[0] for one in products}) == 1 and all(
        tensor is not None
        and tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and len(wiring.readers[tensor.name]) == 1
        for tensor in weights
    )


def _joined(
    model: StoredModel, products: Sequence[NodeProto], wiring: Wiring, folder: Path
) -> list[NodeProto]:
    """Put the weights of products side by side; give the node that multiplies with them."""
    tensors = [wiring.tensors[one.input[1]] for one in products]
    weight = np.concatenate([model.array(tensor) for tensor in tensors], axis=1)
    made = "+".join(one.name for one in products)
    if all(one.name.count("/") > 1 for one in products):  # …/self_attn/q_proj+k_proj+v_proj/MatMul
        above, _, last = products[0].name.rsplit("/", 2)
        made = f"{above}/{'+'.join(one.name.split('/')[-2] for one in products)}/{last}"
    name = f"{made}_weight"
    folder.mkdir(exist_ok=True)
    file = folder / str(len([*folder.iterdir()]))
    weight.tofile(file)
    model.proto.graph.initializer.append(
        TensorProto(name=name, dims=weight.shape, data_type=TensorProto.FLOAT)
    )
    model.places[name] = DataPlace(file, 0, weight.nbytes)
    return [node("MatMul", [products[0].input[0], name], made)]


def _skip_reshapes(kernel: NodeProto, wiring: Wiring) -> None:
    """Have a product read what a kernel gives, where reshapes between them change nothing."""
    name = kernel.output[0]
    while (each := wiring.only_reader(name, "Reshape")) is not None:
        shape, name = wiring.shape(each.input[1]), each.output[0]
        if shape is not None and len(shape) == FLAT:
            for reader in wiring.readers[name]:
                for place, read in enumerate(reader.input):
                    if read == name:
                        reader.input[place] = kernel.output[0]
