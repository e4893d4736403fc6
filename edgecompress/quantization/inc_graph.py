"""Rewrite what Neural Compressor made of a PyTorch graph into what ONNX Runtime's kernels match.

Both steps are on PyTorch's side, so that its exporter meets nothing that it cannot translate:

- `lower_linears` stores each linear layer's weight as int8, already transposed for ``MatMul``, and,
  for dynamic quantization, turns "choose parameters, quantize, dequantize, multiply" into the two
  operators below;
- `TRANSLATIONS` tells the exporter what those two are in ONNX: ``DynamicQuantizeLinear`` and
  ``MatMulInteger`` with its scales and bias, the pattern that ONNX Runtime fuses.

Imported inside functions only: it needs torch and onnxscript.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import TensorProto
from onnxscript import opset18 as op
from torch.fx import GraphModule, Node

from edgecompress.quantization.inc_embedding import onnx_gather_blocks
from edgecompress.quantization.inc_smooth import SMOOTHED

MATRIX = 2
# Names of a tensor and of the module around the model, by which the ONNX side finds them again.
WEIGHT, WRAPPER = "weight", "model."


class LogitsOnly(torch.nn.Module):
    """A transformers model that takes its inputs by position and gives its logits alone."""

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = module
        self.names = tuple(names)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the logits: int64 (batch, length) each to float32 (batch, …, classes)."""
        named = dict(zip(self.names, inputs, strict=True))
        return self.model(**named, return_dict=False)[0]


@torch.library.custom_op(  # type: ignore[untyped-decorator]
    "edgecompress::dynamic_quantize",
    mutates_args=(),
    schema="(Tensor values) -> (Tensor, Tensor, Tensor)",
)
def dynamic_quantize(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantize to uint8 over the range of `values`, as ONNX's ``DynamicQuantizeLinear`` does."""
    low, high = values.amin().clamp(max=0.0), values.amax().clamp(min=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = (-low / scale).round().clamp(0, 255)
    quantized = ((values / scale).round() + zero).clamp(0, 255)
    return quantized.to(torch.uint8), scale, zero.to(torch.uint8)


@dynamic_quantize.register_fake  # type: ignore[untyped-decorator]
def _(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.empty_like(values, dtype=torch.uint8),
        values.new_empty(()),
        values.new_empty((), dtype=torch.uint8),
    )


@torch.library.custom_op(  # type: ignore[untyped-decorator]
    "edgecompress::integer_linear",
    mutates_args=(),
    schema=(
        "(Tensor values, Tensor scale, Tensor zero_point, Tensor weight, Tensor weight_scale,"
        " Tensor? bias) -> Tensor"
    ),
)
def integer_linear(
    values: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Multiply uint8 (…, in) by int8 (in, out) and scale to float32 (…, out)."""
    whole = values.to(torch.int32) - zero_point.to(torch.int32)
    product = whole.to(torch.float64) @ weight.to(torch.float64)  # exact: below 2**53
    result = product.to(torch.float32) * (scale * weight_scale)
    return result if bias is None else result + bias


@integer_linear.register_fake  # type: ignore[untyped-decorator]
def _(
    values: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,  # noqa: ARG001 the operator's signature
    weight: torch.Tensor,
    weight_scale: torch.Tensor,  # noqa: ARG001
    bias: torch.Tensor | None,  # noqa: ARG001
) -> torch.Tensor:
    return scale.new_empty((*values.shape[:-1], weight.shape[1]))


def _onnx_dynamic_quantize(values: Any) -> Any:
    return op.DynamicQuantizeLinear(values)


def _onnx_integer_linear(
    values: Any, scale: Any, zero_point: Any, weight: Any, weight_scale: Any, bias: Any = None
) -> Any:
    product = op.Cast(op.MatMulInteger(values, weight, zero_point), to=TensorProto.FLOAT)
    result = op.Mul(product, op.Mul(scale, weight_scale))
    return result if bias is None else op.Add(result, bias)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.edgecompress.dynamic_quantize.default: _onnx_dynamic_quantize,
    torch.ops.edgecompress.integer_linear.default: _onnx_integer_linear,
    torch.ops.edgecompress.gather_blocks.default: onnx_gather_blocks,
}


@dataclass(frozen=True)
class _Weight:
    """A linear layer's quantized weight: int8 (in, out), its scales and zero points."""

    values: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor


def lower_linears(graph_module: GraphModule) -> tuple[dict[str, str], tuple[str, ...]]:
    """Rewrite, in place, the linear layers of a graph that Neural Compressor has quantized.

    Those that it left in fp32 get their weight transposed, so that they keep its name, too.

    Parameters
    ----------
    graph_module : GraphModule
        What ``neural_compressor.torch.quantization.convert`` returned.

    Returns
    -------
    lowered : dict of str to str
        Linear layers: the submodule that holds a layer's tensors now, and the layer's path in the
        model.
    left : tuple of str
        Those paths among them whose layers Neural Compressor did not quantize.
    """
    graph = graph_module.graph
    quantized_inputs: dict[Node, Node] = {}
    lowered: dict[str, str] = {}
    left: list[str] = []
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target != torch.ops.aten.linear.default:
            continue
        weight = _weight(graph_module, node.args[1])
        scheme = _input_scheme(node.args[0])
        bias = node.args[2] if len(node.args) > 2 else None
        path = layer_path(_parameter_path(node.args[1]).rpartition(".")[0])
        prefix = f"linear_{len(lowered)}"
        if weight is None or scheme is None:
            left.append(path)
            plain = _tensor(graph_module, node.args[1])
            if plain is None:
                continue
            graph_module.add_submodule(prefix, torch.nn.Module())
            with graph.inserting_before(node):
                new = _plain(graph_module, node.args[0], plain, f"{prefix}.{WEIGHT}", bias)
            lowered[prefix] = path
            node.replace_all_uses_with(new)
            graph.erase_node(node)
            continue
        graph_module.add_submodule(prefix, torch.nn.Module())
        with graph.inserting_before(node):
            values = _constant(graph_module, f"{prefix}.{WEIGHT}", weight.values)
            scale = _constant(graph_module, f"{prefix}.scale", weight.scale)
            if scheme == "dynamic":
                new = _dynamic(graph_module, node.args[0], values, scale, bias, quantized_inputs)
            else:
                zero = _constant(graph_module, f"{prefix}.zero_point", weight.zero_point)
                flat = node.meta["val"].dim() == MATRIX
                new = _static(graph_module, node.args[0], values, scale, zero, bias, flat)
        lowered[prefix] = path
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    _drop_stray_rounding(graph_module)
    graph.eliminate_dead_code()
    _drop_unused_tensors(graph_module)
    graph.lint()
    graph_module.recompile()
    return lowered, tuple(left)


def _drop_stray_rounding(graph_module: GraphModule) -> None:
    """Let what is no linear layer read floats again.

    Before the product of a gated feed-forward part (ModernBERT), dynamic quantization rounds
    both inputs and dequantizes them at once: that costs time and accuracy, and ONNX has no such
    operator.
    """
    for node in list(graph_module.graph.nodes):
        if _input_scheme(node) == "dynamic":
            node.replace_all_uses_with(node.args[0].args[0])


def layer_path(path: str) -> str:
    """Give a layer's path in the model, without what smoothing put around it."""
    return ".".join(part for part in path.split(".") if part != SMOOTHED)


def _plain(
    graph_module: GraphModule, values: Node, weight: torch.Tensor, name: str, bias: Any
) -> Node:
    graph = graph_module.graph
    transposed = _constant(graph_module, name, weight.t().contiguous())
    result = graph.call_function(torch.ops.aten.matmul.default, (values, transposed))
    if bias is None:
        return result
    return graph.call_function(torch.ops.aten.add.Tensor, (result, bias))


def _static(
    graph_module: GraphModule,
    values: Node,
    weight: Node,
    scale: Node,
    zero: Node,
    bias: Any,
    flat: bool,
) -> Node:
    graph, quantized = graph_module.graph, torch.ops.quantized_decomposed
    if flat:
        # ONNX Runtime turns a product of matrices and its bias into Gemm, which has no kernel for
        # int8 with an fp32 bias; with three axes the product stays MatMul, which has one.
        inner = values.args[0]
        lifted = graph.call_function(torch.ops.aten.unsqueeze.default, (inner.args[0], 0))
        inner = graph.call_function(inner.target, (lifted, *inner.args[1:]))
        values = graph.call_function(values.target, (inner, *values.args[1:]))
    arguments = (weight, scale, zero, 1, -128, 127, torch.int8)
    restored = graph.call_function(quantized.dequantize_per_channel.default, arguments)
    result = graph.call_function(torch.ops.aten.matmul.default, (values, restored))
    if flat:
        result = graph.call_function(torch.ops.aten.squeeze.dim, (result, 0))
    if bias is None:
        return result
    return graph.call_function(torch.ops.aten.add.Tensor, (result, bias))


def _dynamic(
    graph_module: GraphModule,
    dequantized: Node,
    weight: Node,
    scale: Node,
    bias: Any,
    seen: dict[Node, Node],
) -> Node:
    graph = graph_module.graph
    source = dequantized.args[0].args[0]
    if source not in seen:  # query, key and value read the same activation: quantize it once
        call = graph.call_function(torch.ops.edgecompress.dynamic_quantize.default, (source,))
        seen[source] = call
    parts = tuple(
        graph.call_function(operator.getitem, (seen[source], position)) for position in range(3)
    )
    arguments = (*parts, weight, scale, bias)
    return graph.call_function(torch.ops.edgecompress.integer_linear.default, arguments)


def _weight(graph_module: GraphModule, node: Any) -> _Weight | None:
    """Compute the int8 weight behind ``dequantize(quantize(parameter))``."""
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
    return _Weight(
        values.t().contiguous(),
        arguments[1].to(torch.float32).clone(),
        arguments[2].to(torch.int8).clone(),
    )


def _input_scheme(node: Any) -> str | None:
    quantized = torch.ops.quantized_decomposed
    if _calls(node, quantized.dequantize_per_tensor.default):
        return "static"
    if (
        _calls(node, quantized.dequantize_per_tensor.tensor)
        and _calls(node.args[0], quantized.quantize_per_tensor.tensor)
        and _calls(node.args[1], operator.getitem)
        and _calls(node.args[1].args[0], quantized.choose_qparams.tensor)
    ):
        return "dynamic"
    return None


def _calls(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target == target


def _tensor(graph_module: GraphModule, node: Any) -> Any:
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    value: Any = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach()


def _parameter_path(node: Any) -> str:
    while isinstance(node, Node) and node.op != "get_attr" and node.args:
        node = node.args[0]
    return str(node.target).removeprefix(WRAPPER) if isinstance(node, Node) else "?"


def _constant(graph_module: GraphModule, name: str, value: torch.Tensor) -> Node:
    prefix, _, own = name.rpartition(".")
    graph_module.get_submodule(prefix).register_buffer(own, value)
    return graph_module.graph.get_attr(name)


def _drop_unused_tensors(graph_module: GraphModule) -> None:
    """Forget the fp32 weights that no node reads any more."""
    used = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    for path, module in list(graph_module.named_modules()):
        for store in (module._parameters, module._buffers):
            for name in list(store):
                if (f"{path}.{name}" if path else name) not in used:
                    del store[name]
