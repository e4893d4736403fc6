"""Small ONNX graphs that hold a linear layer whole and as a product, to be timed side by side.

Imported inside functions only: it needs onnx.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.write.writer import rewrite
from edgecompress.values import OnnxModel

COPIES = 8
"""Layers side by side in a graph, so that what a session costs per run hardly counts."""


def layer_graph(
    widths: tuple[int, ...], bias: bool, tokens: int, folder: Path, int8: bool
) -> OnnxModel:
    """Write a graph of `COPIES` equal layers on one input, with random weights.

    Parameters
    ----------
    widths : tuple of int
        ``(in, out)`` for a whole layer, ``(in, rank, out)`` for a product.
    bias : bool
        Of the last matrix.
    tokens : int
        Length of the input, float32 (1, tokens, in).
    folder : Path
        Where to write; it is made.
    int8 : bool
        Quantize it dynamically.
    """
    random = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []
    for copy in range(COPIES):
        value = "x"
        for place, sizes in enumerate(pairwise(widths)):
            name = f"weight_{copy}_{place}"
            matrix = random.standard_normal(sizes).astype(np.float32)
            weights.append(numpy_helper.from_array(matrix, name))
            nodes.append(helper.make_node("MatMul", [value, name], [f"y_{copy}_{place}"]))
            value = f"y_{copy}_{place}"
        if bias:
            vector = random.standard_normal(widths[-1]).astype(np.float32)
            weights.append(numpy_helper.from_array(vector, f"bias_{copy}"))
            nodes.append(helper.make_node("Add", [value, f"bias_{copy}"], [f"y_{copy}"]))
            value = f"y_{copy}"
        outputs.append(value)
    shape = [1, tokens]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*shape, widths[0]])],
        [
            helper.make_tensor_value_info(o, TensorProto.FLOAT, [*shape, widths[-1]])
            for o in outputs
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    plain, path = folder / "plain.onnx", folder / "model.onnx"
    save(model, plain)
    if int8:
        write_model(rewrite(read_model(plain), Scheme())[0], path)
        plain.unlink()
        return OnnxModel(path)
    return OnnxModel(plain.rename(path))
