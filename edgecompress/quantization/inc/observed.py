"""What Neural Compressor found for each linear layer: read from the graph that it converted.

It leaves a layer as ``linear(dequantize(quantize(x)), dequantize(quantize(weight)))``. Of that the
weight's integers and scales are taken, and the range that the input's scale and zero point cover.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from edgecompress.quantization.arithmetic.weights import Quantized
from edgecompress.quantization.inc.smoothing import SMOOTHED, WRAPPER


@dataclass(frozen=True, slots=True)
class ObservedLayer:
    """A linear layer that Neural Compressor has quantized.

    Attributes
    ----------
    weight : Quantized
        int8, shape (inputs, outputs), with a scale for each output.
    range : (float, float), optional
        What the input's 256 levels cover; None: it is found at run time.
    """

    weight: Quantized
    range: tuple[float, float] | None


def observed_layers(graph_module: GraphModule) -> dict[str, ObservedLayer]:
    """Give what was found, by the layers' paths in the model; layers left in fp32 are missing.

    Parameters
    ----------
    graph_module : GraphModule
        What ``neural_compressor.torch.quantization.convert`` returned.
    """
    found = {}
    for node in graph_module.graph.nodes:
        if node.op != "call_function" or node.target != torch.ops.aten.linear.default:
            continue
        weight, scheme = _weight(graph_module, node.args[1]), _range(node.args[0])
        if weight is not None and scheme is not None:
            found[_module(node)] = ObservedLayer(weight, scheme or None)
    return found


def layer_path(path: str) -> str:
    """Give a layer's path in the model, without what smoothing put around it."""
    return ".".join(part for part in path.split(".") if part != SMOOTHED)


def _module(node: Node) -> str:
    """Give the path of the module that called `node`: a tied weight has the name of another one."""
    path, _ = list(node.meta["nn_module_stack"].values())[-1]
    return layer_path(str(path).removeprefix(WRAPPER))


def _weight(graph_module: GraphModule, node: Any) -> Quantized | None:
    """Compute the integers behind ``dequantize(quantize(parameter))``."""
    quantized = torch.ops.quantized_decomposed
    if not _calls(node, quantized.dequantize_per_channel.default):
        return None
    inner = node.args[0]
    if not _calls(inner, quantized.quantize_per_channel.default):
        return None
    arguments = [_tensor(graph_module, a) if isinstance(a, Node) else a for a in inner.args]
    if arguments[0] is None or arguments[3] != 0:  # one scale per output channel
        return None
    with torch.no_grad():
        values = quantized.quantize_per_channel.default(*arguments)
    return Quantized(
        values.t().contiguous().numpy(),
        arguments[1].to(torch.float32).numpy().copy(),
        arguments[2].to(torch.int8).numpy().copy(),
    )


def _range(node: Any) -> tuple[float, float] | tuple[()] | None:
    """Give the range of an input that is rounded; empty where that is found at run time."""
    if _calls(node, torch.ops.quantized_decomposed.dequantize_per_tensor.default):
        _, scale, zero, least, most = node.args[:5]
        return (least - zero) * scale, (most - zero) * scale
    quantized = torch.ops.quantized_decomposed
    if (
        _calls(node, quantized.dequantize_per_tensor.tensor)
        and _calls(node.args[0], quantized.quantize_per_tensor.tensor)
        and _calls(node.args[1], operator.getitem)
        and _calls(node.args[1].args[0], quantized.choose_qparams.tensor)
    ):
        return ()
    return None


def _calls(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target == target


def _tensor(graph_module: GraphModule, node: Node) -> Any:
    if node.op != "get_attr":
        return None
    value: Any = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach()
