"""ONNX files of foreign make, as they come from other tools: five, and ways to make them.

Nothing of edgecompress is used to make them, and nothing in edgecompress knows of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSET = helper.make_opsetid("", 18)
value = helper.make_tensor_value_info
node = helper.make_node


def _random(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    generator = np.random.default_rng([seed, *name.encode()])
    array = (generator.standard_normal(shape) * 0.1).astype(np.float32)
    return numpy_helper.from_array(array, name)


def _constant(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _save(file: Path, graph: onnx.GraphProto, *domains: str) -> Path:
    opsets = [OPSET, *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(file))
    return file


def cnn(file: Path) -> Path:
    """A small image classifier exported by PyTorch with open batch, height and width."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip
    torch.onnx.export(
        model, (torch.zeros(1, 3, 64, 64),), str(file), dynamo=False,
        input_names=["image"], output_names=["scores"],
        dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
    )  # fmt: skip
    return file


def lstm(file: Path) -> Path:
    """An LSTM over embedded ids; a Loop within an If smooths what it gives, or a branch doubles it.

    The loop looks rows up in a second, smaller table by the ids that it carries.
    """
    hidden, vocabulary, small = 16, 500, 300
    body = helper.make_graph(
        [
            node("Gather", ["second_table", "carried_ids"], ["rows"]),
            node("ReduceMean", ["rows"], ["mean"], keepdims=0),
            node("Mul", ["carried", "half"], ["less"]),
            node("Add", ["less", "mean"], ["next"]),
            node("Identity", ["on"], ["still_on"]),
            node("Identity", ["carried_ids"], ["same_ids"]),
        ],
        "smooth",
        [value("turn", INT, []), value("on", BOOL, []), value("carried", FLOAT, None),
         value("carried_ids", INT, None)],
        [value("still_on", BOOL, []), value("next", FLOAT, None), value("same_ids", INT, None)],
        [numpy_helper.from_array(np.float32(0.5), "half")],
    )  # fmt: skip
    turns = numpy_helper.from_array(np.int64(3), "turns")
    forever = numpy_helper.from_array(np.bool_(True), "forever")
    looped = helper.make_graph(
        [node("Loop", ["turns", "forever", "states", "ids"], ["smooth", "ids_out"], body=body)],
        "looped", [], [value("smooth", FLOAT, None)], [turns, forever],
    )  # fmt: skip
    doubled = helper.make_graph(
        [node("Add", ["states", "states"], ["double"])], "doubled", [],
        [value("double", FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            node("Gather", ["table", "ids"], ["embedded"]),
            node("LSTM", ["embedded", "w", "r"], ["states", "last"], hidden_size=hidden),
            node("ReduceSum", ["last"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["smoothing"], to=BOOL),
            node("If", ["smoothing"], ["result"], then_branch=looped, else_branch=doubled),
        ],
        "lstm",
        [value("ids", INT, ["time", "batch"])],
        [value("result", FLOAT, None)],
        [_random("table", vocabulary, hidden), _random("second_table", small, 4),
         _random("w", 1, 4 * hidden, hidden), _random("r", 1, 4 * hidden, hidden)],
    )  # fmt: skip
    return _save(file, graph)


def transformer(file: Path) -> Path:
    """A BERT of two layers with random weights, exported by PyTorch with open axes."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class Named(torch.nn.Module):
        """The exporter fills the parameters that are not given with None, by position."""

        def __init__(self) -> None:
            super().__init__()
            self.model = BertModel(config)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> tuple:
            found = self.model(ids, attention_mask=mask, token_type_ids=kinds)
            return found.last_hidden_state, found.pooler_output

    given = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    axes = {0: "batch_size", 1: "sequence_length"}
    torch.onnx.export(
        Named().eval(), given, str(file), dynamo=False, input_names=names,
        output_names=["last_hidden_state", "pooler_output"], opset_version=17,
        dynamic_axes=dict.fromkeys([*names, "last_hidden_state"], axes),
    )  # fmt: skip
    return file


def several(file: Path) -> Path:
    """An image, words with a mask and a half-precision scale; four open sizes, old-style weights.

    The weights are inputs with a default too, as in files of IR version 3.
    """
    width = 8
    tables = [_random("table", 700, width), _random("filter", width, 3, 5, 5)]
    graph = helper.make_graph(
        [
            node("Cast", ["tokens"], ["ids"], to=INT),
            node("Gather", ["table", "ids"], ["words"]),
            node("Unsqueeze", ["token_mask", "last_axis"], ["kept"]),
            node("Cast", ["kept"], ["weight"], to=FLOAT),
            node("Mul", ["words", "weight"], ["shown"]),
            node("ReduceMean", ["shown", "first_axis"], ["text"], keepdims=0),
            node("Cast", ["photo"], ["bright"], to=FLOAT),
            node("Conv", ["bright", "filter"], ["seen"], strides=[4, 4]),
            node("GlobalAveragePool", ["seen"], ["pooled"]),
            node("Flatten", ["pooled"], ["image"]),
            node("Cast", ["scale"], ["factor"], to=FLOAT),
            node("Mul", ["image", "factor"], ["scaled"]),
            node("Add", ["scaled", "text"], ["score"]),
        ],
        "several",
        [
            value("photo", TensorProto.UINT8, ["n", 3, "rows_height", "columns_width"]),
            value("tokens", TensorProto.INT32, ["n", "words_len"]),
            value("token_mask", BOOL, ["n", "words_len"]),
            value("scale", TensorProto.FLOAT16, []),
            *(value(table.name, FLOAT, list(table.dims)) for table in tables),
        ],
        [value("score", FLOAT, None)],
        [*tables, _constant("last_axis", 2), _constant("first_axis", 1)],
    )
    return _save(file, graph)


def custom(file: Path) -> Path:
    """A graph with an operator of somebody's own library, in a branch."""
    out = [value("z", FLOAT, None)]
    own = node("FastTokenShift", ["x"], ["z"], name="/block.0/shift", domain="acme.kernels")
    graph = helper.make_graph(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["yes"], to=BOOL),
            node(
                "If", ["yes"], ["y"],
                then_branch=helper.make_graph([own], "own", [], out),
                else_branch=helper.make_graph([node("Relu", ["x"], ["z"])], "plain", [], out),
            ),
        ],
        "custom",
        [value("x", FLOAT, ["batch", 16])],
        [value("y", FLOAT, None)],
    )  # fmt: skip
    return _save(file, graph, "acme.kernels")


FOREIGN = {
    "cnn": cnn,
    "lstm": lstm,
    "transformer": transformer,
    "several": several,
    "custom": custom,
}
