"""A small attention layer with random weights, written by hand: rows of a batch share a graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from lookup_models import SPECIALS, TAGS, WORD_LANGUAGES, WORD_TAGS, write_tokenizer
from onnx import TensorProto, helper, numpy_helper

from edgecompress.values import Candidate, OnnxModel

WIDTH = 16


class Feeds:
    """Calibration inputs as ONNX Runtime asks for them."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def write_attention(folder: Path, task: str, quantized: str = "") -> Candidate:
    """Write a candidate: embeddings, one attention head with its mask, and a linear layer.

    Answers mean nothing, but each token's depends on all tokens of its row. `quantized` is
    ``dynamic`` or ``static`` for int8 linear layers as ONNX Runtime makes them.
    """
    tagging = task == "token-classification"
    words = (*WORD_TAGS, *WORD_LANGUAGES)
    labels = TAGS if tagging else tuple(sorted(set(WORD_LANGUAGES.values())))
    generator = np.random.default_rng(5)

    def weight(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    arrays = {
        "table": weight(len(SPECIALS) + len(words), WIDTH),
        **{name: weight(WIDTH, WIDTH) / 3 for name in ("wq", "wk", "wv")},
        "wo": weight(WIDTH, len(labels)),
        "one": np.float32(1),
        "far": np.float32(-1e4),
        "middle": np.array([1]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "input_ids"], ["x"]),
        *(node("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Sub", ["one", "mask"], ["outside"]),
        node("Mul", ["outside", "far"], ["lowered"]),
        node("Unsqueeze", ["lowered", "middle"], ["each"]),
        node("Add", ["scores", "each"], ["masked"]),
        node("Softmax", ["masked"], ["attention"], axis=-1),
        node("MatMul", ["attention", "v"], ["mixed"]),
        node("MatMul", ["mixed", "wo"], ["answers"]),
    ]
    if tagging:
        nodes.append(node("Identity", ["answers"], ["logits"]))
    else:
        arrays["first"] = np.array(0)
        nodes.append(node("Gather", ["answers", "first"], ["logits"], axis=1))
    value = helper.make_tensor_value_info
    inputs = [
        value(name, TensorProto.INT64, ["b", "l"]) for name in ("input_ids", "attention_mask")
    ]
    shape = ["b", "l", len(labels)] if tagging else ["b", len(labels)]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(
        nodes, "attention", inputs, [value("logits", TensorProto.FLOAT, shape)], tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "model" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, str(file))
    if quantized == "dynamic":
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(file, file, op_types_to_quantize=["MatMul"])
    elif quantized == "static":
        from onnxruntime.quantization import quantize_static

        rows = generator.integers(4, len(SPECIALS) + len(words), size=(64, 12))
        feeds = iter([{"input_ids": rows, "attention_mask": np.ones_like(rows)}])
        quantize_static(file, file, Feeds(feeds), op_types_to_quantize=["MatMul"])
    write_tokenizer(folder / "preprocessor", words)
    return Candidate(OnnxModel(file), folder / "preprocessor", task, labels)
