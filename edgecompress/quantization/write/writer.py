"""The writer of all schemes: it realises a plan in one walk over the graph.

Each layer that the plan names gives way to the nodes that compute it; all else stays.

Dynamic: activations are quantized at run time (``DynamicQuantizeLinear`` + ``MatMulInteger`` …),
the same nodes and the same bits as `onnxruntime.quantization.quantize_dynamic` makes. Static:
QDQ pairs around the inputs of linear layers, with ranges measured before. Of a transformer only the
inputs of linear layers are quantized: the attention mask's bias (as low as -3.4e38), the softmax
and the residual stream stay in fp32. Convolutions have QDQ pairs on both sides, and so has what
lies between them (`graphs.regions`). ONNX Runtime fuses all into its integer kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import NodeProto, helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import asymmetric, scalar
from edgecompress.quantization.graphs.layers import Kind, Layer, find_layers
from edgecompress.quantization.plan.planning import plan_of
from edgecompress.quantization.plan.quant_plan import LayerPlan, QuantPlan
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.write import embedding_nodes, linear_nodes
from edgecompress.quantization.write.draft import FIXED, Draft

QUANTIZED_ON_LOADING = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Of these ONNX Runtime rounds fp32 weights, with one scale for all, where their input comes from a
DequantizeLinear (onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc). A Max of
one tensor copies it, and is the cheapest node that none of its rules takes out."""
WRITERS: Mapping[Kind, Callable[[Draft, NodeProto, Layer, LayerPlan], None]] = {
    "matmul": linear_nodes.matmul,
    "gemm": linear_nodes.gemm,
    "attention": linear_nodes.attention,
    "conv": linear_nodes.conv,
    "lstm": linear_nodes.lstm,
    "table": embedding_nodes.table,
    "embed_layer_norm": embedding_nodes.embed_layer_norm,
}


def rewrite(model: StoredModel, scheme: Scheme) -> tuple[StoredModel, dict[str, str]]:
    """Quantize `model` as `scheme` says.

    The graph of `model` is changed in place (its weights lie on disk and are read one by one).

    Returns
    -------
    model : StoredModel
        The quantized graph.
    reasons : dict of str to str
        Why layers were left alone, by node name.

    Raises
    ------
    StageError
        When the graph's opset is too old, or a range is missing.
    """
    plan = plan_of(model, scheme)
    return write_plan(model, plan), dict(plan.left)


def write_plan(model: StoredModel, plan: QuantPlan) -> StoredModel:
    """Write the graph that `plan` describes; `model` is changed in place.

    Its weights lie on disk and are read one by one.

    Raises
    ------
    StageError
        When a range is missing.
    """
    return _Writer(model, plan).run()


class _Writer:
    """Walks a graph in its order and writes another, layer by layer."""

    def __init__(self, model: StoredModel, plan: QuantPlan) -> None:
        self.layers = {layer.node: layer for layer in find_layers(model)}
        self.outputs = {value.name for value in model.proto.graph.output}
        self.model, self.plan = model, plan
        self.draft = Draft(model, plan, self.layers.values())

    def run(self) -> StoredModel:
        """Rewrite the graph in place; give it."""
        pairs = self.plan.pairs
        for value in self.model.proto.graph.input:
            if value.name in pairs:
                self._keep_in_8_bits(value.name)
        for node in list(self.model.proto.graph.node):
            how = self.plan.layers.get(node.name)
            outputs = list(node.output)
            for place, name in enumerate(outputs):
                if name in pairs and name in self.outputs:
                    node.output[place] = f"{name}_raw"
            if how is None:
                self._as_it_is(node)
            else:
                layer = self.layers[node.name]
                WRITERS[layer.kind](self.draft, node, layer, how)
            for name in outputs:
                if name in pairs:
                    self._keep_in_8_bits(name)
        return self.draft.finish()

    def _as_it_is(self, node: NodeProto) -> None:
        """Keep a node; what is kept in 8 bits it reads decoded, or its shape as it is."""
        draft = self.draft
        names = (
            {name: parts[0] for (name, _), parts in draft.activations.items()}
            if node.op_type == "Shape"
            else draft.decoded
        )
        for place, name in enumerate(node.input):
            if name in draft.decoded:
                node.input[place] = names[name]
                if place == 0 and node.op_type in QUANTIZED_ON_LOADING:
                    node.input[0] = f"{node.name}_in_fp32"
                    draft.add("Max", [names[name]], f"{node.name}_Max", node.input[0])
        draft.nodes.append(node)

    def _keep_in_8_bits(self, name: str) -> None:
        """Put a QDQ pair behind a tensor of a region; all that follows reads what comes out."""
        draft = self.draft
        source = self.plan.pairs[name]
        stem, factors = draft.stem(name), draft.stem(source)
        quantized, scale, zero = f"{stem}_quantized", f"{factors}_scale", f"{factors}_zero_point"
        if scale not in draft.made:
            if source not in self.plan.ranges:
                raise StageError(f"no activation range was measured for {source}")
            low, high = self.plan.ranges[source]
            # uint8 even where linear layers take int8: on x86 ONNX Runtime folds no Relu into int8.
            factor, middle = asymmetric(low, high)
            draft.made |= {scale: scalar(factor, scale), zero: scalar(middle, zero)}
        last = name in self.outputs
        decoded = name if last else f"{stem}_decoded"
        raw = f"{name}_raw" if last else name
        ends = [scale, zero]
        made = helper.make_node("QuantizeLinear", [raw, *ends], [quantized], f"{stem}_Quantize")
        draft.nodes.append(made)
        draft.add("DequantizeLinear", [quantized, *ends], f"{stem}_Dequantize", decoded)
        draft.activations[name, FIXED] = (quantized, scale, zero)
        draft.decoded[name] = decoded
