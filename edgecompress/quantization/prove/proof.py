"""Prove what runs as int8: read it from the graph that ONNX Runtime optimised and executed.

What a file promises and what the runtime does are two things: a QDQ pair that matches no integer
kernel is multiplied in fp32. So a session is opened with the model's own settings, run on two
different shapes with the profiler on, and the nodes of the optimised graph that ran are sorted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import TensorProto

from edgecompress.errors import DataError, StageError
from edgecompress.models.session import (
    ORT_ERRORS,
    first_line,
    open_session,
    session_options,
)
from edgecompress.models.storage import read_model, write_model
from edgecompress.models.synthetic import made_feeds
from edgecompress.quantization.graphs.layers import OF_OFFSETS
from edgecompress.quantization.graphs.small_tables import decoded_tables, stored_bits
from edgecompress.quantization.graphs.tracing import Graph, attribute, walk
from edgecompress.values import Feed, Json, OnnxModel
from edgecompress.writing import temporary

# Operator -> position of its weight. Sources: ONNX and com.microsoft operator documentation.
INTEGER_LINEAR = {
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "QAttention": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "DynamicQuantizeLSTM": 1,
}
FLOAT_LINEAR = {
    "MatMul": (1, 0),
    "Gemm": (1, 0),
    "FusedMatMul": (1, 0),
    "FusedGemm": (1, 0),
    "TransposeMatMul": (1, 0),
    "FusedMatMulActivation": (1, 0),
    "Attention": (1,),
    "PackedAttention": (1,),
    "Conv": (1,),
    "FusedConv": (1,),
    "LSTM": (1,),
    "GRU": (1,),
    "ConvTranspose": (1,),
}
EMBED_LAYER_NORM_TABLES = {2: "word", 3: "position", 4: "segment"}
DTYPE_NAMES = {
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.FLOAT: "fp32",
    TensorProto.DOUBLE: "fp64",
}
# MatMulNBits computes in int8 at this `accuracy_level`, in floats at others.
NBITS_INT8_COMPUTE = 4
DEQUANTIZED = "stored as int8, but ONNX Runtime dequantizes it and computes in fp32"
PROBES = ((1, 5), (3, 9))
EXTERNAL_ABOVE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """A linear layer or an embedding, as it was executed.

    `dtype` is what its kernel computes (a linear layer) or keeps (an embedding) in; `reason` says
    why that is not int8 and is empty where it is.
    """

    name: str
    kind: Literal["linear", "embedding"]
    op: str
    weight: str
    shape: tuple[int, ...]
    dtype: str
    reason: str = ""

    @property
    def dequantized(self) -> bool:
        """Whether it is stored as int8 and computed in fp32 all the same."""
        return self.reason == DEQUANTIZED


@dataclass(frozen=True, slots=True)
class Coverage:
    """All linear layers and embeddings of a graph that ran.

    `operators` counts the executed graph's nodes by type.
    """

    parts: tuple[Part, ...]
    operators: Mapping[str, int]

    def select(self, kind: str, *, int8: bool) -> tuple[Part, ...]:
        """Parts of a `kind` (``linear`` or ``embedding``) that are int8, or that are not."""
        return tuple(p for p in self.parts if p.kind == kind and (not p.reason) == int8)

    @property
    def int8_linears(self) -> tuple[Part, ...]:
        """Linear layers that an integer kernel computes."""
        return self.select("linear", int8=True)

    @property
    def fp32_linears(self) -> tuple[Part, ...]:
        """Linear layers that are computed in floating point."""
        return self.select("linear", int8=False)

    @property
    def int8_embeddings(self) -> tuple[Part, ...]:
        """Embeddings that are kept in 8 or 4 bits."""
        return self.select("embedding", int8=True)

    @property
    def fp32_embeddings(self) -> tuple[Part, ...]:
        """Embeddings that are kept in floating point."""
        return self.select("embedding", int8=False)

    def to_json(self, reasons: Mapping[str, str] | None = None) -> Json:
        """Give what a stage writes into its decisions.

        Parameters
        ----------
        reasons : mapping, optional
            Better reasons by the name of a node or a weight, where the stage knows them.
        """
        known = reasons or {}
        exceptions = {
            part.name: known.get(part.name) or known.get(part.weight) or part.reason
            for part in self.parts
            if part.reason
        }
        found: Json = {
            "int8_linears": [part.name for part in self.int8_linears],
            "int8_embeddings": [part.name for part in self.int8_embeddings],
            "exceptions": exceptions,
        }
        fine = [part.name for part in self.parts if part.dtype == "int4" and not part.reason]
        # Those of the two lists above whose weights take 4 bits in the file.
        return found | {"stored_in_4_bits": fine} if fine else found


def _float_reason(dtype: int, dequantized: bool) -> str:
    if dequantized:
        return DEQUANTIZED
    return f"the weight is {DTYPE_NAMES.get(dtype, 'not int8')} in the file"


def _linear(node: Any, graph: Graph) -> Part | None:
    op = node.op_type
    if node.name.endswith(OF_OFFSETS):
        return None
    if op == "MatMulNBits":
        bits = attribute(node, "bits", 4)
        computed = attribute(node, "accuracy_level", 0) == NBITS_INT8_COMPUTE
        reason = "" if computed else f"weights of {bits} bits are multiplied in fp32"
        size = (attribute(node, "K", 0), attribute(node, "N", 0))
        return Part(node.name, "linear", op, node.input[1], size, f"int{bits}", reason)
    if op in INTEGER_LINEAR:
        weight = graph.constant(node.input[INTEGER_LINEAR[op]])
        if weight is None:
            return None
        return Part(node.name, "linear", op, weight[0], weight[2], "int8")
    for position in FLOAT_LINEAR.get(op, ()):
        found = graph.constant(node.input[position]) if len(node.input) > position else None
        if found is not None and len(found[2]) > 1:
            name, dtype, shape, dequantized = found
            reason = _float_reason(dtype, dequantized)
            kind = "fp32" if dequantized else DTYPE_NAMES.get(dtype, "other")
            return Part(node.name, "linear", op, name, shape, kind, reason)
    return None


def _embeddings(node: Any, graph: Graph, decoded: Mapping[str, int]) -> Iterator[Part]:
    """Give the tables that a node looks up in; those `decoded` at load have their stored bits."""
    op = node.op_type
    if op == "GatherBlockQuantized":
        found = graph.constant(node.input[0])
        if found is not None:
            kind = f"int{attribute(node, 'bits', 4)}"
            yield Part(node.name, "embedding", op, found[0], found[2], kind)
    elif op in {"EmbedLayerNormalization", "QEmbedLayerNormalization"}:
        for position, what in EMBED_LAYER_NORM_TABLES.items():
            found = graph.constant(node.input[position]) if node.input[position] else None
            if found is not None:
                yield _table(f"{node.name}/{what}", op, found)
    elif op == "Gather" and attribute(node, "axis", 0) == 0:
        found = graph.constant(node.input[0])
        if found is not None and found[0] in decoded:
            yield Part(node.name, "embedding", op, found[0], found[2], f"int{decoded[found[0]]}")
        elif found is not None and len(found[2]) == 2 and found[1] in DTYPE_NAMES:
            yield _table(node.name, op, found)


def _table(name: str, op: str, found: tuple[str, int, tuple[int, ...], bool]) -> Part:
    weight, dtype, shape, dequantized = found
    kind = "fp32" if dequantized else DTYPE_NAMES.get(dtype, "other")
    reason = "" if kind == "int8" else _float_reason(dtype, dequantized)
    return Part(name, "embedding", op, weight, shape, kind, reason)


def coverage(model: OnnxModel, feeds: Sequence[Feed] | None = None) -> Coverage:
    """Read from ONNX Runtime which linear layers and embeddings of `model` run as int8.

    Parameters
    ----------
    model : OnnxModel
        Opened with its own session settings on this machine's CPU.
    feeds : sequence of dict, optional
        Inputs to run it on; by default two made-up ones of different batch and length. None at
        all (an empty sequence): it is not run, and all nodes of the optimised graph count.

    Returns
    -------
    Coverage
        Nodes that did not run (an untaken branch of an If) are left out.

    Raises
    ------
    StageError
        When ONNX Runtime cannot load or run the model.
    """
    # The blocked layout of fp32 convolutions renames them, and touches no integer.
    disabled = (*model.session.disabled_optimizers, "NchwcTransformer")
    source = model
    model = replace(model, session=replace(model.session, disabled_optimizers=disabled))
    with temporary() as folder:
        options = session_options(model.session)
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        # Weights aside: the graph alone is read back.
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", "weights")
        options.add_session_config_entry(prefix + "min_size_in_bytes", str(EXTERNAL_ABOVE_BYTES))
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = open_session(model, options=options)
        graph = onnx.load(folder / "optimized.onnx", load_external_data=False).graph
        tables = decoded_tables(read_model(source.path))
        decoded = {name: stored_bits(nodes) for name, nodes in tables.items()}
        feeds = made_feeds(source, PROBES) if feeds is None else feeds
        try:
            for feed in feeds:
                session.run(None, feed)
        except ORT_ERRORS as error:
            session.end_profiling()
            raise StageError(f"ONNX Runtime cannot run the model ({first_line(error)})") from None
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {
        event["name"].removesuffix("_kernel_time")
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    parts: list[Part] = []
    operators: dict[str, int] = {}
    for node, scope in walk(graph):
        if feeds and node.name and node.name not in ran:
            continue
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        linear = _linear(node, scope)
        parts += [linear] if linear else []
        parts += _embeddings(node, scope, decoded)
    return Coverage(tuple(parts), dict(sorted(operators.items())))


def check_model(model: OnnxModel) -> None:
    """Check that `model` is valid ONNX and that ONNX Runtime loads it.

    Raises
    ------
    StageError
        Naming the file and what is wrong with it.
    """
    with temporary() as folder:
        try:
            onnx.checker.check_model(str(_with_shapes(model.path, folder)))
        except (onnx.checker.ValidationError, ValueError, DataError) as error:
            first = str(error).strip().splitlines()[0]
            raise StageError(f"{model.path}: not valid ONNX ({first})") from None
    open_session(model)


def _with_shapes(path: Path, folder: Path) -> Path:
    """Give a copy in which every input and output has a shape, where one of `path` has none.

    ONNX Runtime needs none, and exporters leave them out; ONNX's checker takes that for an error.
    """
    stored = read_model(path)
    graph = stored.proto.graph
    types = [value.type.tensor_type for value in (*graph.input, *graph.output)]
    open_rank = [found for found in types if found.elem_type and not found.HasField("shape")]
    if not open_rank:
        return path
    for found in open_rank:
        found.shape.SetInParent()
    write_model(stored, folder / path.name)
    return folder / path.name
