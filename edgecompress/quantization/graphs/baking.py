"""Write the graph that ONNX Runtime makes of a model when it loads it, and mend what it leaves.

Baked: constant folding and the fusions up to a level, so that they are not done at every start.
Not baked: tables that are decoded when the file is loaded, as they would grow; and what suits one
processor only. That is the layouts of level ``all``, the weights that an AVX2 processor without
VNNI wants shifted to uint8, and the weights packed for a kernel.
Source: ``SessionOptions.optimized_model_filepath``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from onnx import NodeProto

from edgecompress.models.session import open_session, session_options
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.graphs.fusion import operator_counts
from edgecompress.quantization.graphs.small_tables import decoded_tables, put_back, take_out
from edgecompress.values import OnnxModel
from edgecompress.writing import private

Level = Literal["basic", "extended", "all"]
HARDWARE = ("Avx2WeightS8ToU8Transformer",)
BIAS_INPUT = 6
"""Of ``com.microsoft.MatMulIntegerToFloat``."""
ZERO_POINT_INPUTS = {"MatMulIntegerToFloat": 5, "DynamicQuantizeMatMul": 3, "MatMulInteger": 3}
"""Where an integer product takes its weight's zero points, which it need not be given."""
INLINE_BELOW_BYTES = 1024


def bake(model: OnnxModel, level: Level, target: Path) -> None:
    """Write `model` as its session optimizes it up to `level` to `target`.

    Raises
    ------
    StageError
        When ONNX Runtime cannot load the model.
    """
    settings = replace(
        model.session,
        graph_optimization_level=level,
        disabled_optimizers=tuple(sorted({*model.session.disabled_optimizers, *HARDWARE})),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with private(target.parent, "--store or EDGECOMPRESS_STORE") as folder:
        source, aside = read_model(model.path), folder / "model.onnx"
        tables = decoded_tables(source)
        if tables:  # folding would store them in float32
            take_out(source, tables)
            model = replace(model, path=folder / "without.onnx")
            write_model(source, model.path)
        options = session_options(settings)
        options.optimized_model_filepath = str(aside)
        # Weights aside: one file may be too large for them, and `write_model` joins what fits.
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", "weights")
        options.add_session_config_entry(prefix + "min_size_in_bytes", str(INLINE_BELOW_BYTES))
        # The weights as they are in the file, not as a kernel of this processor wants them.
        options.add_session_config_entry("session.disable_prepacking", "1")
        open_session(replace(model, session=settings), options=options)
        baked = read_model(aside)
        put_back(baked, source, tables)
        write_model(baked, target)


def fold_biases(model: StoredModel) -> int:
    """Give integer products the bias that an ``Add`` or ``BiasGelu`` behind them adds.

    ONNX Runtime does so for products with dynamic ranges, and leaves those that it makes of QDQ
    pairs with an ``Add``. Changes `model` in place.

    Returns
    -------
    int
        How many biases were folded.
    """
    graph = model.proto.graph
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    readers: Counter[str] = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    products = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "MatMulIntegerToFloat"
        and readers[node.output[0]] == 1
        and not (len(node.input) > BIAS_INPUT and node.input[BIAS_INPUT])
    }
    dead: list[NodeProto] = []
    folded = 0
    for node in graph.node:
        if node.op_type not in {"Add", "BiasGelu"}:
            continue
        data, bias = node.input
        if node.op_type == "Add" and bias in products:
            data, bias = bias, data
        product, size = products.get(data), sizes.get(bias, ())
        if product is None or len(size) != 1 or size != sizes.get(product.input[1], ())[-1:]:
            continue
        product.input.extend([""] * (BIAS_INPUT - len(product.input)))
        del product.input[BIAS_INPUT:]
        product.input.append(bias)
        folded += 1
        if node.op_type == "Add":
            product.output[0] = node.output[0]
            dead.append(node)
        else:
            node.op_type = "Gelu"
            del node.input[1:]
    for node in dead:
        graph.node.remove(node)
    return folded


def drop_zero_points(model: StoredModel) -> int:
    """Leave out the zero points of integer products' weights where all of them are 0.

    ONNX Runtime multiplies with them all the same. Changes `model` in place.

    Returns
    -------
    int
        How many products have none any more.
    """
    graph = model.proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    dropped: list[str] = []
    for node in graph.node:
        index = ZERO_POINT_INPUTS.get(node.op_type, len(node.input))
        zeros = tensors.get(node.input[index]) if index < len(node.input) else None
        if zeros is None or model.array(zeros).any():
            continue
        dropped.append(zeros.name)
        node.input[index] = ""
        while not node.input[-1]:
            del node.input[-1]
    used = {name for node in graph.node for name in node.input}
    for name in set(dropped) - used - {value.name for value in graph.output}:
        graph.initializer.remove(tensors[name])
    return len(dropped)


def beyond(model: OnnxModel, level: Level, folder: Path) -> dict[str, int]:
    """Count what level ``all`` makes beside what `level` makes: nodes by operator, for this CPU."""
    paths = {name: folder / f"{name}.onnx" for name in (level, "all")}
    for name, path in paths.items():
        bake(model, name, path)
    before, after = (Counter(operator_counts(path)) for path in paths.values())
    return dict(sorted((after - before).items()))
