"""Give a convolution's bias what rounding its weights takes from the mean of its answers.

Source: Nagel et al., 2019, "Data-free quantization through weight equalization and bias
correction", section 4.2: with rounded weights W + e a layer's answers move by E[e x] = e E[x] in
the mean, which its bias can make up for. E[x] is measured on calibration samples here, for each
channel; what lies at an edge, where a convolution reads padding, is taken for the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import asymmetric
from edgecompress.quantization.graphs.channel_pairs import by_input, groups_of
from edgecompress.quantization.graphs.layers import Layer, find_layers
from edgecompress.quantization.graphs.regions import least_scales
from edgecompress.quantization.plan.quant_plan import Correction, LayerPlan, QuantPlan
from edgecompress.quantization.write.draft import quantize_weight

Array = np.ndarray[Any, Any]
LEVELS = 127
"""Of a correction: it is kept in 8 bits, so that a plan stays small."""


def corrected_layers(model: StoredModel, plan: QuantPlan | None = None) -> list[Layer]:
    """List the convolutions of a graph, or those of a plan, whose bias can be corrected."""
    found = [one for one in find_layers(model) if one.kind == "conv" and not one.refused]
    return [one for one in found if plan is None or one.node in plan.layers]


def bias_corrections(
    model: StoredModel, plan: QuantPlan, means: Mapping[str, Array]
) -> dict[str, Correction]:
    """Find what is to be added to the bias of each convolution that a plan quantizes.

    Parameters
    ----------
    model : StoredModel
        `ready` for a plan.
    plan : QuantPlan
    means : mapping of str to ndarray, shape (channels,)
        By a convolution's input, the mean of each channel in fp32.

    Returns
    -------
    dict of str to Correction
        By node; without those that nothing moves.
    """
    nodes = {node.name: node for node in model.proto.graph.node}
    tensors = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    found = {}
    for layer in corrected_layers(model, plan):
        node = nodes[layer.node]
        inputs = int(tensors[layer.weights[0]].dims[1]) * groups_of(node)
        if len(means.get(layer.data, ())) != inputs:
            continue  # a mask took some away, or they were not finite
        named = node.input[2] if len(node.input) > 2 else ""
        bias = model.array(tensors[named]) if named else None
        weight = model.array(tensors[layer.weights[0]])
        scale, _ = asymmetric(*plan.ranges[plan.pairs[layer.data]])
        lost = _lost(weight, plan.layers[layer.node], bias, scale)
        groups = groups_of(node)
        error = by_input(lost, layer, groups)
        error = error.reshape(*error.shape[:3], -1).sum(axis=3)
        moved = np.einsum("gio,gi->go", error, means[layer.data].reshape(groups, -1)).ravel()
        unit = float(np.float32(np.abs(moved).max(initial=0.0) / LEVELS))
        if unit > 0:
            found[layer.node] = Correction(unit, np.round(-moved / unit).astype(np.int8))
    return found


def _lost(weight: Array, how: LayerPlan, bias: Array | None, data_scale: Array) -> Array:
    """Give by how much rounding moves each weight, float64 of its shape."""
    least = None if bias is None else least_scales(bias, data_scale)
    if least is not None and not how.per_channel:
        least = least.max(keepdims=True)
    made = quantize_weight(weight, "filters", how, least)
    scale = made.scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return made.values * scale - weight
