"""Fill a plan: what a scheme makes of each layer of one graph, and why it leaves others alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import SMALLEST_BLOCK, fitting_block
from edgecompress.quantization.graphs.constants import lift_constants
from edgecompress.quantization.graphs.layers import Layer, find_layers, name_nodes
from edgecompress.quantization.graphs.normalizations import fold_normalizations
from edgecompress.quantization.graphs.opset import opset_of
from edgecompress.quantization.graphs.regions import Regions, find_regions, unlike_joins
from edgecompress.quantization.plan.fitness import MOST_LOST, Fitness, lost_in_blocks
from edgecompress.quantization.plan.quant_plan import Activation, Kernel, LayerPlan, QuantPlan
from edgecompress.quantization.plan.scheme import EXCLUDED, LEAST_OPSET, NOT_ASKED, Scheme

NO_KERNEL = "ONNX Runtime has no integer kernel for it as it stands here"
TABLES = frozenset({"table", "embed_layer_norm"})


def plan_of(model: StoredModel, scheme: Scheme) -> QuantPlan:
    """Decide what `scheme` makes of each layer of `model`.

    Its nodes are given names, constants become initializers, and a static scheme folds the
    normalizations behind convolutions. Weights are read one by one, to see whether 8 bits hold
    them.

    Raises
    ------
    StageError
        When the graph's opset is too old.
    """
    form = scheme.form
    opset = opset_of(model)
    if opset < LEAST_OPSET[form]:
        raise StageError(
            f"{form} quantization needs opset {LEAST_OPSET[form]} or newer, and this model has "
            f"{opset}: export it again with a newer opset"
        )
    return _Planner(ready(model, static=form == "static"), scheme).plan()


def ready(model: StoredModel, *, static: bool) -> StoredModel:
    """Bring a graph, in place, into the form that a plan is of; give it."""
    name_nodes(model)
    lift_constants(model)
    if static:
        fold_normalizations(model)
    return model


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


class _Planner:
    """Decides over one graph."""

    def __init__(self, model: StoredModel, scheme: Scheme) -> None:
        self.model, self.layers = model, find_layers(model)
        self.sources = {tensor.name: tensor for tensor in model.proto.graph.initializer}
        tables = {layer.weights[0] for layer in self.layers if layer.kind == "table"}
        self.table_values = sum(math.prod(self.sources[name].dims) for name in tables)
        self.static = scheme.form == "static"
        if self.static:
            measured, ranges = regions_of(model, frozenset()).sources, scheme.ranges or {}
            # What a pooling or reshaping gives has the range of what it was given.
            passed = {n: ranges[s] for n, s in measured.items() if s in ranges}
            scheme = replace(scheme, ranges={**passed, **ranges})
        self.scheme = scheme
        self.unfit: dict[str, str] = {}
        self.coarse: set[str] = set()
        self.tied: set[str] = set()

    def plan(self) -> QuantPlan:
        """Decide over every layer."""
        scheme = self.scheme
        fitness = Fitness(self.model, scheme)
        asked = [layer for layer in self.layers if not self._reason(layer)]
        self.unfit = fitness.reasons(asked)
        for layer in asked:
            reason = next((scheme.held[name] for name in layer.weights if name in scheme.held), "")
            self.unfit |= {layer.node: reason} if reason else {}
        self.coarse = self._coarse_tables()
        regions = self._settled_regions() if self.static else Regions({})
        self.unfit |= regions.left
        reasons = {layer.node: self._reason(layer) for layer in self.layers}
        done = [layer for layer in self.layers if not reasons[layer.node]]
        eights = (x for x in done if x.kind != "table" or self._block_of_table(x) is None)
        shared = shared_tables(eights, scheme)
        self.tied = tied_tables(done) if scheme.linears == "blocks" and scheme.share else set()
        by_rows = {name for name, form in fitness.forms.items() if form == "rows"}
        return QuantPlan(
            {layer.node: self._layer(layer, shared, by_rows) for layer in done},
            {node: reason for node, reason in reasons.items() if reason},
            dict(scheme.ranges or {}),
            regions.sources,
            {**scheme.blocks, **scheme.weights},
        )

    def _layer(self, layer: Layer, shared: set[str], by_rows: set[str]) -> LayerPlan:
        scheme, weight = self.scheme, layer.weights[0]
        if weight in self.tied and (both := self._tied(layer)):
            return both
        if layer.kind == "table":
            block = self._block_of_table(layer)
            if block is not None:
                return LayerPlan("blocks", bits=4, block=block, search=scheme.search)
            if weight not in shared:
                return LayerPlan("rows" if weight in by_rows else "table")
        if layer.kind == "embed_layer_norm":
            return LayerPlan("fused")
        if scheme.linears == "blocks":
            return LayerPlan(
                "blocks",
                bits=scheme.linear_bits,
                block=self._block_of_linear(layer) or 0,
                search=scheme.search,
                floats=scheme.floats,
                offsets=scheme.offsets,
            )
        return linear_plan(scheme, self._kernel(layer), self._activation(layer))

    def _tied(self, layer: Layer) -> LayerPlan | None:
        """Plan a table that a linear layer multiplies with, too: one form that both read.

        None where no block divides its width.
        """
        scheme, name = self.scheme, layer.weights[0]
        ready = scheme.blocks.get(name)
        if ready is not None:
            return LayerPlan("tied", bits=ready.bits, block=ready.block, floats=scheme.floats)
        bits = scheme.embedding_bits if name not in self.coarse else 8
        wanted = scheme.embedding_block if bits == 4 else scheme.linear_block
        block = fitting_block(int(self.sources[name].dims[1]), wanted)
        if block is None:
            return None
        return LayerPlan(
            "tied",
            bits=bits,
            block=block,
            search=scheme.search,
            floats=scheme.floats,
            offsets=scheme.offsets,
        )

    def _kernel(self, layer: Layer) -> Kernel:
        if layer.kind == "table":
            return "shared"
        if layer.kind in {"attention", "lstm"}:
            return "fused"
        exact = layer.kind == "gemm" or layer.weights[0] in self.scheme.as_integers
        return "integers" if exact or not self.static else "qdq"

    def _activation(self, layer: Layer) -> Activation:
        if layer.kind in {"table", "lstm"}:
            return "none"
        if not self.static:
            return "dynamic"
        return "int8" if self.scheme.signed_activations else "uint8"

    def _settled_regions(self) -> Regions:
        """Take out, until nothing changes, the tensors that 8 bits cannot hold."""
        convolutions = {layer.node for layer in self.layers if layer.kind == "conv"}
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
        for layer in self.layers:
            if layer.kind != "table" or self._reason(layer):
                continue
            block, name = self._block_of_table(layer), layer.weights[0]
            if block is not None and name not in found:
                table = self.model.array(self.sources[name])
                if lost_in_blocks(table, block) > MOST_LOST:
                    found.add(name)
        return found

    def _block_of_table(self, layer: Layer) -> int | None:
        """Give the block of a table that takes 4 bits; None: it takes 8."""
        if self.scheme.embedding_bits != 4 or layer.weights[0] in self.coarse:
            return None
        rows, width = self.sources[layer.weights[0]].dims
        if rows * width < self.scheme.least_table * self.table_values:
            return None
        return fitting_block(width, self.scheme.embedding_block)

    def _block_of_linear(self, layer: Layer) -> int | None:
        return fitting_block(self._inputs(layer), self.scheme.linear_block)

    def _inputs(self, layer: Layer) -> int:
        return int(self.sources[layer.weights[0]].dims[1 if layer.transposed else 0])

    def _reason(self, layer: Layer) -> str:
        """Say why a layer stays as it is; empty where it does not."""
        scheme = self.scheme
        if scheme.exclude & {layer.node, *layer.weights}:
            return EXCLUDED
        if layer.node in self.unfit:
            return self.unfit[layer.node]
        if layer.kind in TABLES:
            return layer.refused if scheme.embeddings else NOT_ASKED[layer.kind]
        if scheme.linears == "off":
            return NOT_ASKED[layer.kind]
        if layer.kind == "lstm":  # its states are rounded at run time, whatever the scheme
            return layer.refused or ("" if scheme.linears == "int8" else NOT_ASKED["lstm"])
        if layer.kind == "conv":
            if not self.static:
                return NOT_ASKED["conv"]
            if layer.weights[0] in scheme.as_integers:
                return NO_KERNEL
        if scheme.linears == "blocks":
            if layer.kind == "attention":
                return "fused attention has no kernel for weights in blocks"
            if self._block_of_linear(layer) is None:
                return f"its {self._inputs(layer)} inputs are no multiple of {SMALLEST_BLOCK}"
        if scheme.ranges is not None and layer.data in scheme.unfit:
            return scheme.unfit[layer.data]
        return layer.refused


def linear_plan(scheme: Scheme, kernel: Kernel, activation: Activation) -> LayerPlan:
    """Give the plan of a linear layer of 8 bits, with the types that `scheme` asks for."""
    return LayerPlan(
        kernel,
        activation,
        per_channel=scheme.per_channel,
        reduce_range=scheme.reduce_range,
        unsigned=scheme.unsigned_weights,
        symmetric=scheme.symmetric_weights,
    )


def shared_tables(layers: Iterable[Layer], scheme: Scheme) -> set[str]:
    """Find the tables of 8 bits that are also the weight of a linear layer: they are stored once.

    The layer's scale for each output is one for each row of the table. With a zero point of 0
    a row that is looked up needs nothing else.

    Parameters
    ----------
    layers : iterable of Layer
        Those that are quantized, without tables of 4 bits.
    scheme : Scheme
    """
    if scheme.unsigned_weights or not scheme.symmetric_weights:
        return set()
    if scheme.linears != "int8" or not scheme.share:
        return set()
    return tied_tables(layers)


def tied_tables(layers: Iterable[Layer]) -> set[str]:
    """Find the tables that linear layers multiply with, all of them with the rows as outputs."""
    readers = [(layer.weights[0], layer.kind, layer.transposed) for layer in layers]
    looked_up = {name for name, kind, _ in readers if kind == "table"}
    multiplied = [(name, turned) for name, kind, turned in readers if kind in {"matmul", "gemm"}]
    turned = {name for name, turned in multiplied if turned}
    return (looked_up & turned) - {name for name, turned in multiplied if not turned}
