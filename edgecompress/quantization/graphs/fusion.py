"""ONNX Runtime's transformer optimizer, one fusion at a time, and a layout of our own.

Source: `onnxruntime.transformers.optimizer`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from edgecompress.errors import StageError
from edgecompress.models.session import ORT_ERRORS
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.attention_kernels import write_kernels
from edgecompress.quantization.graphs.layers import names_read_inside
from edgecompress.quantization.graphs.layout import sequence_first
from edgecompress.quantization.graphs.patterns import prepare_for_fusion

SEQUENCE_FIRST = "sequence_first"
# What each name in a variant switches on in `FusionOptions`.
FUSIONS: dict[str, tuple[str, ...]] = {
    # Nothing but the optimizer's own tidying: shared constants, dead nodes, simpler shapes.
    "tidy": (),
    "attention": ("enable_attention",),
    "multi_head_attention": ("enable_attention", "use_multi_head_attention"),
    # The same, then taken apart again in another layout (`quantization.graphs.layout`).
    SEQUENCE_FIRST: ("enable_attention", "use_multi_head_attention"),
    "gelu": ("enable_gelu", "enable_bias_gelu"),
    "layer_norm": ("enable_layer_norm",),
    "skip_layer_norm": ("enable_skip_layer_norm", "enable_bias_skip_layer_norm"),
    "embed_layer_norm": ("enable_embed_layer_norm",),
}
ALWAYS = ("enable_shape_inference",)
# What the optimizer is known to raise on graphs that it did not expect.
FAILURES: tuple[type[Exception], ...] = (
    *ORT_ERRORS,
    AssertionError,
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
)
BIG_FILE_BYTES = 2**31 - 2**26
QUANTIZED_OPERATORS = frozenset(
    {
        "DynamicQuantizeLinear",
        "QuantizeLinear",
        "DequantizeLinear",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
        "QLinearMatMul",
        "QAttention",
    }
)


def is_quantized(path: Path) -> bool:
    """Tell whether the graph of a file holds quantized operators."""
    nodes = read_model(path).proto.graph.node
    return any(node.op_type in QUANTIZED_OPERATORS for node in nodes)


def graph_digest(path: Path) -> str:
    """SHA-256 of the operators and how they are wired, names and weights aside."""
    graph = read_model(path).proto.graph
    numbers: dict[str, int] = {}
    digest = hashlib.sha256()
    for node in graph.node:
        names = [*node.input, "→", *node.output]
        wires = [numbers.setdefault(name, len(numbers)) for name in names]
        digest.update(repr((node.domain, node.op_type, wires)).encode())
    return digest.hexdigest()


def operator_counts(path: Path) -> dict[str, int]:
    """Count the nodes of a file's graph by operator."""
    counts: dict[str, int] = {}
    for node in read_model(path).proto.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))


def fuse(source: Path, fusions: Collection[str], model_type: str, target: Path) -> None:
    """Write `source` with the given fusions to `target`.

    Parameters
    ----------
    source : Path
    fusions : collection of str
        Keys of `FUSIONS`.
    model_type : str
        As the optimizer knows it: ``bert`` (also for XLM-R and its kin), ``gpt2``, ``vit`` …
    target : Path

    Raises
    ------
    StageError
        When the optimizer fails on this graph.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    target.parent.mkdir(parents=True, exist_ok=True)
    model = read_model(source)
    prepared = prepare_for_fusion(model)
    if any("enable_attention" in FUSIONS[name] for name in fusions):
        prepared |= write_kernels(model)
    if prepared:
        source = target.with_name(f"prepared-{target.name}")
        write_model(model, source)
    options = FusionOptions(model_type)
    # The mask as it is: its sum as a length would take for granted that padding is on the right.
    options.use_raw_attention_mask(True)
    wanted = {flag for name in fusions for flag in FUSIONS[name]} | set(ALWAYS)
    for flag in {flag for flags in FUSIONS.values() for flag in flags}:
        setattr(options, flag, flag in wanted)
    with _quiet():
        try:
            # Zero heads and zero width: read from each attention, as pruned layers differ.
            optimized = optimize_model(
                str(source),
                model_type,
                num_heads=0,
                hidden_size=0,
                optimization_options=options,
                opt_level=0,
            )
        except FAILURES as error:
            raise StageError(f"ONNX Runtime's optimizer failed ({error!r})") from error
        size = sum(len(t.raw_data) for t in optimized.model.graph.initializer)
        optimized.topological_sort()
        _share_weights(optimized.model.graph)
        optimized.save_model_to_file(str(target), use_external_data_format=size > BIG_FILE_BYTES)
        # Optimizer and fusions refer to each other: several copies of the weights would stay.
        vars(optimized).clear()
    for file in target.parent.glob(f"prepared-{target.name}*"):
        file.unlink()
    if SEQUENCE_FIRST in fusions:
        aside = target.with_name(f"aside-{target.name}")
        model = read_model(target)
        sequence_first(model)
        write_model(model, aside)
        aside.replace(target)


def _share_weights(graph: Any) -> None:
    """Keep one of equal matrices: of a layer that runs again the optimizer packs its weights again.

    Source: ALBERT, whose graph holds each of its layers' weights once.
    """
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    fixed = {value.name for value in graph.output} | names_read_inside(graph.node)
    for tensor in graph.initializer:
        if len(tensor.dims) > 1 and tensor.raw_data and tensor.name not in fixed:
            digest = hashlib.sha256(tensor.raw_data).digest()
            name = first.setdefault((tensor.data_type, tuple(tensor.dims), digest), tensor.name)
            if name != tensor.name:
                same[tensor.name] = name
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    kept = [tensor for tensor in graph.initializer if tensor.name not in same]
    if same:
        del graph.initializer[:]
        graph.initializer.extend(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the optimizer's log and prints from the user: what failed comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
