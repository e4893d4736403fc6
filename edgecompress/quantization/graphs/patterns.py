"""Rewrite what ONNX Runtime's transformer optimizer does not recognise in the form that it does.

It was made for the graphs of one exporter. In those of `torch.onnx.export(dynamo=True)` it finds no
attention and no embedding, and it stumbles over normalizations without a bias. When a file is
loaded, ONNX Runtime knows no GELU in them either.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.activation_patterns import order_gelu
from edgecompress.quantization.graphs.attention_patterns import (
    attention_nodes,
    find_attention,
    mask_nodes,
)
from edgecompress.quantization.graphs.position_patterns import looked_up_words, position_nodes
from edgecompress.quantization.graphs.trials import Trials
from edgecompress.quantization.graphs.wiring import Wiring, put_constant, replace_nodes


def prepare_for_fusion(model: StoredModel) -> bool:
    """Rewrite attentions, positions, normalizations and GELU as ONNX Runtime expects them.

    Attentions need queries, keys and values of the same number of heads from linear layers, scores
    divided by the root of the head's size, and no mask but one of the model's inputs.

    Parameters
    ----------
    model : StoredModel
        Changed in place, and only where something is not yet as it is expected.

    Returns
    -------
    bool
        Whether anything was rewritten.
    """
    wiring, trials = Wiring(model), Trials(model)
    nodes = list(model.proto.graph.node)
    places = {name: index for index, each in enumerate(nodes) for name in each.output if name}
    made: dict[int, list[NodeProto]] = {}
    gone: set[int] = set()
    masks: set[str] = set()
    mended = False
    for index, each in enumerate(nodes):
        if each.op_type == "Softmax" and (found := find_attention(each, wiring, trials)):
            if found.known:
                continue
            gone |= {places[one.output[0]] for one in found.nodes}
            if found.mask and found.mask.name not in masks:
                masks.add(found.mask.name)
                made.setdefault(0, []).extend(mask_nodes(model, found.mask))
            at = places[found.product.output[0]]
            made.setdefault(at, []).extend(attention_nodes(model, found))
        elif each.op_type == "Gather" and (words := looked_up_words(each, wiring, trials)):
            gone.add(index)
            made.setdefault(index, []).extend(position_nodes(model, each, words))
        elif each.op_type == "LayerNormalization":
            mended |= _give_bias(model, each, wiring)
        elif each.op_type == "Mul":
            mended |= order_gelu(each, wiring)
    if gone:
        replace_nodes(model, made, gone)
    return bool(gone) or mended


def _give_bias(model: StoredModel, norm: NodeProto, wiring: Wiring) -> bool:
    """Give a normalization a bias of zeros where it has none: the optimizer reads it."""
    gamma = wiring.tensors.get(norm.input[1])
    if gamma is None or len(norm.input) > 2 or len(gamma.dims) != 1:
        return False
    size = gamma.dims[0]
    norm.input.append(put_constant(model, f"no_bias_{size}", np.zeros(size, np.float32)))
    return True
