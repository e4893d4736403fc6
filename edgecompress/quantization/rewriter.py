"""One rewrite of a graph: each layer that is quantized gives way to the nodes that compute it.

`edgecompress.quantization.rewrite` says what is rewritten and checks that it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from onnx import NodeProto, helper

from edgecompress.errors import StageError
from edgecompress.quantization import embedding_nodes, linear_nodes
from edgecompress.quantization.blocks import SMALLEST_BLOCK, fitting_block
from edgecompress.quantization.draft import Draft
from edgecompress.quantization.layers import Kind, Layer, find_layers
from edgecompress.quantization.regions import Regions, find_regions
from edgecompress.quantization.scheme import EXCLUDED, NOT_ASKED, Scheme
from edgecompress.quantization.storage import StoredModel
from edgecompress.quantization.weights import asymmetric, scalar

NO_KERNEL = "ONNX Runtime has no integer kernel for it as it stands here"
WRITERS: Mapping[Kind, Callable[[Draft, NodeProto, Layer], None]] = {
    "matmul": linear_nodes.matmul,
    "gemm": linear_nodes.gemm,
    "attention": linear_nodes.attention,
    "conv": linear_nodes.conv,
    "table": embedding_nodes.table,
    "embed_layer_norm": embedding_nodes.embed_layer_norm,
}


def regions_of(model: StoredModel, kept: frozenset[str]) -> Regions:
    """Find the tensors around convolutions, but for those that are `kept` in fp32."""
    graph = model.proto.graph
    convolutions = {
        layer.node
        for layer in find_layers(model)
        if layer.kind == "conv" and not layer.refused and not kept & {layer.node, *layer.weights}
    }
    return find_regions(graph.node, [value.name for value in graph.output], convolutions)


class Rewriter:
    """Walks a graph in its order and writes another, layer by layer."""

    def __init__(self, model: StoredModel, scheme: Scheme) -> None:
        self.model, self.scheme = model, scheme
        self.layers = {layer.node: layer for layer in find_layers(model)}
        self.draft = Draft(model, scheme, self.layers.values())
        static = scheme.ranges is not None and scheme.linears == "int8"
        self.regions = (
            regions_of(model, scheme.exclude | scheme.as_integers) if static else Regions({})
        )
        self.outputs = {value.name for value in model.proto.graph.output}

    def run(self) -> tuple[StoredModel, dict[str, str]]:
        """Rewrite the graph in place; give it, and by node why a layer was left alone."""
        self.draft.shared = self._shared_weights(self.layers.values())
        reasons: dict[str, str] = {}
        for value in self.model.proto.graph.input:
            if value.name in self.regions.sources:
                self._keep_in_8_bits(value.name)
        for node in list(self.model.proto.graph.node):
            layer = self.layers.get(node.name)
            reason = self._reason(layer) if layer else ""
            outputs = list(node.output)
            for place, name in enumerate(outputs):
                if name in self.regions.sources and name in self.outputs:
                    node.output[place] = f"{name}_raw"
            if layer is not None and not reason:
                WRITERS[layer.kind](self.draft, node, layer)
            else:
                reasons |= {node.name: reason} if reason else {}
                self._as_it_is(node)
            for name in outputs:
                if name in self.regions.sources:
                    self._keep_in_8_bits(name)
        return self.draft.finish(), reasons

    def _as_it_is(self, node: NodeProto) -> None:
        """Keep a node; what is kept in 8 bits it reads decoded, or its shape as it is."""
        draft = self.draft
        names = (
            {name: parts[0] for name, parts in draft.activations.items()}
            if node.op_type == "Shape"
            else draft.decoded
        )
        for place, name in enumerate(node.input):
            if name in draft.decoded:
                node.input[place] = names[name]
        draft.nodes.append(node)

    def _keep_in_8_bits(self, name: str) -> None:
        """Put a QDQ pair behind a tensor of a region; all that follows reads what comes out."""
        draft = self.draft
        source = self.regions.sources[name]
        stem, factors = draft.stem(name), draft.stem(source)
        quantized, scale, zero = f"{stem}_quantized", f"{factors}_scale", f"{factors}_zero_point"
        if scale not in draft.made:
            if source not in (self.scheme.ranges or {}):
                raise StageError(f"no activation range was measured for {source}")
            low, high = (self.scheme.ranges or {})[source]
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
        draft.activations[name] = (quantized, scale, zero)
        draft.decoded[name] = decoded

    def _reason(self, layer: Layer) -> str:
        """Say why a layer stays as it is; empty where it does not."""
        if self.scheme.exclude & {layer.node, *layer.weights}:
            return EXCLUDED
        if layer.kind in {"table", "embed_layer_norm"}:
            return layer.refused if self.scheme.embeddings else NOT_ASKED[layer.kind]
        if self.scheme.linears == "off":
            return NOT_ASKED[layer.kind]
        if layer.kind == "conv":
            if self.scheme.linears != "int8" or self.scheme.ranges is None:
                return NOT_ASKED["conv"]
            if layer.weights[0] in self.scheme.as_integers:
                return NO_KERNEL
        if self.scheme.linears == "blocks":
            if layer.kind == "attention":
                return "fused attention has no kernel for weights in blocks"
            width = self.draft.sources[layer.weights[0]].dims[1 if layer.transposed else 0]
            if fitting_block(width, self.scheme.linear_block) is None:
                return f"its {width} inputs are no multiple of {SMALLEST_BLOCK}"
        return layer.refused

    def _shared_weights(self, layers: Iterable[Layer]) -> set[str]:
        """Find the tables that are also the weight of a linear layer, and can be stored once.

        The layer's scale for each output is one for each row of the table. With a zero point of 0
        a row that is looked up needs nothing else.
        """
        if self.scheme.unsigned_weights or not self.scheme.symmetric_weights:
            return set()
        if self.scheme.linears != "int8" or not self.scheme.share:
            return set()
        done = [layer for layer in layers if not self._reason(layer)]
        looked_up = {
            layer.weights[0]
            for layer in done
            if layer.kind == "table" and embedding_nodes.block_of_table(self.draft, layer) is None
        }
        multiplied = [layer for layer in done if layer.kind in {"matmul", "gemm"}]
        turned = {layer.weights[0] for layer in multiplied if layer.transposed}
        straight = {layer.weights[0] for layer in multiplied if not layer.transposed}
        return (looked_up & turned) - straight
