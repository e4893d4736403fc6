"""One rewrite of a graph: each layer that is quantized gives way to the nodes that compute it.

`edgecompress.quantization.rewrite` says what is rewritten and checks that it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from onnx import NodeProto, helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization import embedding_nodes, linear_nodes
from edgecompress.quantization.blocks import SMALLEST_BLOCK, fitting_block
from edgecompress.quantization.draft import Draft
from edgecompress.quantization.fitness import MOST_LOST, Fitness, lost_in_blocks
from edgecompress.quantization.layers import Kind, Layer, find_layers
from edgecompress.quantization.regions import Regions, find_regions, unlike_joins
from edgecompress.quantization.scheme import EXCLUDED, NOT_ASKED, Scheme
from edgecompress.quantization.weights import asymmetric, scalar

NO_KERNEL = "ONNX Runtime has no integer kernel for it as it stands here"
QUANTIZED_ON_LOADING = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Of these ONNX Runtime rounds fp32 weights, with one scale for all, where their input comes from a
DequantizeLinear (onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc). A Max of
one tensor copies it, and is the cheapest node that none of its rules takes out."""
WRITERS: Mapping[Kind, Callable[[Draft, NodeProto, Layer], None]] = {
    "matmul": linear_nodes.matmul,
    "gemm": linear_nodes.gemm,
    "attention": linear_nodes.attention,
    "conv": linear_nodes.conv,
    "lstm": linear_nodes.lstm,
    "table": embedding_nodes.table,
    "embed_layer_norm": embedding_nodes.embed_layer_norm,
}


def regions_of(
    model: StoredModel, kept: frozenset[str], apart: Mapping[str, str] | None = None
) -> Regions:
    """Find the tensors around convolutions, but for those that are `kept` in fp32.

    `apart` are tensors that 8 bits cannot hold, and why.
    """
    graph = model.proto.graph
    convolutions = {
        layer.node
        for layer in find_layers(model)
        if layer.kind == "conv" and not layer.refused and not kept & {layer.node, *layer.weights}
    }
    outputs = [value.name for value in graph.output]
    return find_regions(graph.node, outputs, convolutions, apart)


class Rewriter:
    """Walks a graph in its order and writes another, layer by layer."""

    def __init__(self, model: StoredModel, scheme: Scheme) -> None:
        self.layers = {layer.node: layer for layer in find_layers(model)}
        self.outputs = {value.name for value in model.proto.graph.output}
        self.model, self.scheme, self.unfit = model, scheme, dict[str, str]()
        self.regions = Regions({})
        if scheme.ranges is not None and scheme.linears == "int8":
            measured = regions_of(model, frozenset()).sources
            # What a pooling or reshaping gives has the range of what it was given.
            passed = {n: scheme.ranges[s] for n, s in measured.items() if s in scheme.ranges}
            self.scheme = replace(scheme, ranges={**passed, **scheme.ranges})
        self.draft = Draft(model, self.scheme, self.layers.values())
        fitness = Fitness(model, self.scheme)
        asked = [layer for layer in self.layers.values() if not self._reason(layer)]
        self.unfit = fitness.reasons(asked)
        for layer in asked:
            reason = next((scheme.held[name] for name in layer.weights if name in scheme.held), "")
            self.unfit |= {layer.node: reason} if reason else {}
        self.draft.by_rows = {name for name, form in fitness.forms.items() if form == "rows"}
        self.draft.coarse = self._coarse_tables()
        if scheme.ranges is not None and scheme.linears == "int8":
            self.regions = self._settled_regions()
            self.unfit |= self.regions.left

    def _settled_regions(self) -> Regions:
        """Take out, until nothing changes, the tensors that 8 bits cannot hold."""
        convolutions = {name for name, layer in self.layers.items() if layer.kind == "conv"}
        kept = self.scheme.exclude | self.scheme.as_integers | (convolutions & set(self.unfit))
        nodes, ranges = self.model.proto.graph.node, self.scheme.ranges or {}
        apart: dict[str, str] = {}
        while True:
            found = regions_of(self.model, kept, apart)
            unfit = {
                name: self.scheme.unfit[source]
                for name, source in found.sources.items()
                if source in self.scheme.unfit
            }
            more = unlike_joins(nodes, found, ranges) | unfit
            if more.keys() <= apart.keys():
                return found
            apart |= more

    def _coarse_tables(self) -> set[str]:
        """Find the tables that would lose too much in blocks of 4 bits."""
        found = set()
        for layer in self.layers.values():
            if layer.kind != "table" or self._reason(layer):
                continue
            block, name = embedding_nodes.block_of_table(self.draft, layer), layer.weights[0]
            if block is not None and name not in found:
                table = self.model.array(self.draft.sources[name])
                if lost_in_blocks(table, block) > MOST_LOST:
                    found.add(name)
        return found

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
                if place == 0 and node.op_type in QUANTIZED_ON_LOADING:
                    node.input[0] = f"{node.name}_in_fp32"
                    draft.add("Max", [names[name]], f"{node.name}_Max", node.input[0])
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
        if layer.node in self.unfit:
            return self.unfit[layer.node]
        if layer.kind in {"table", "embed_layer_norm"}:
            return layer.refused if self.scheme.embeddings else NOT_ASKED[layer.kind]
        if self.scheme.linears == "off":
            return NOT_ASKED[layer.kind]
        if layer.kind == "lstm":  # its states are rounded at run time, whatever the scheme
            return layer.refused or ("" if self.scheme.linears == "int8" else NOT_ASKED["lstm"])
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
        if self.scheme.ranges is not None and layer.data in self.scheme.unfit:
            return self.scheme.unfit[layer.data]
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
