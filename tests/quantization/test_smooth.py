"""Smoothing: the same answers to the bit in fp32, nearer ones in int8 where channels stand out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.folding import find_groups
from edgecompress.quantization.graphs.layers import name_nodes
from edgecompress.quantization.observe.channels import (
    MOST_ROWS,
    Channels,
    collect_channels,
    load_channels,
    save_channels,
    stream,
)
from edgecompress.quantization.observe.histograms import collect
from edgecompress.quantization.observe.observing import observe
from edgecompress.quantization.observe.ranges import find_ranges
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.write.smooth import (
    choose_alpha,
    group_weight,
    layer_error,
    smooth,
    smoothable,
    smoothing_factors,
)
from edgecompress.quantization.write.writer import rewrite
from edgecompress.values import OnnxModel

WIDTH, INNER = 32, 48
LOUD = (3, 17)


def block(path: Path, *, residual: bool = False, gated: bool = False) -> OnnxModel:
    """Write normalization → linear → ReLU (or a gate) → linear, some channels 60 times as loud."""
    random = np.random.default_rng(0)
    gamma = np.ones(WIDTH, np.float32)
    gamma[list(LOUD)] = 60
    weights = {
        "gamma": gamma,
        "beta": random.standard_normal(WIDTH),
        "up": random.standard_normal((WIDTH, INNER)),
        "gate": random.standard_normal((INNER, WIDTH)),  # read with transB
        "up_bias": random.standard_normal(INNER),
        "down": random.standard_normal((INNER, WIDTH)),
    }
    weights["up"][list(LOUD)] /= 60
    weights["gate"][:, list(LOUD)] /= 60
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "up"], ["u"]),
        helper.make_node("Add", ["up_bias", "u"], ["b"]),
    ]
    if gated:
        nodes += [
            helper.make_node("Gemm", ["n", "gate"], ["g"], transB=1),
            helper.make_node("Sigmoid", ["g"], ["s"]),
            helper.make_node("Mul", ["s", "b"], ["a"]),
        ]
    else:
        nodes.append(helper.make_node("Relu", ["b"], ["a"]))
    nodes.append(helper.make_node("MatMul", ["a", "down"], ["d" if residual else "y"]))
    if residual:
        nodes.append(helper.make_node("Add", ["d", "n"], ["y"]))
    shape = ["rows", WIDTH]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items() if k in used],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, path)
    return OnnxModel(path)


def feeds(count: int = 12, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    for rows in random.integers(1, 30, count):
        yield {"x": random.standard_normal((int(rows), WIDTH)).astype(np.float32)}


def answers(model: OnnxModel) -> np.ndarray:
    session = open_session(model)
    return np.concatenate([session.run(None, feed)[0] for feed in feeds(8, seed=1)])


def seen_of(model: OnnxModel, names, folder: Path):
    return collect_channels(stream(observe(model, names, folder), names, feeds()), 12)


def smoothed(model: OnnxModel, folder: Path, *, multiply: bool, alpha: float = 0.5) -> OnnxModel:
    stored = read_model(model.path)
    groups = smoothable(stored, frozenset(), multiply=multiply)
    seen = seen_of(model, [group.data for group in groups], folder / "observed")
    factors = {
        g.data: smoothing_factors(seen[g.data].most, group_weight(stored, g), alpha) for g in groups
    }
    made = OnnxModel(folder / "smoothed.onnx")
    write_model(smooth(stored, groups, factors), made.path)
    onnx.checker.check_model(str(made.path))
    return made


def static_error(model: OnnxModel, folder: Path, truth: np.ndarray) -> float:
    stored = read_model(model.path)
    name_nodes(stored)
    names = [group.data for group in find_groups(stored)]
    ranges = find_ranges(collect(observe(model, names, folder / "observed"), names, feeds()))
    made = OnnxModel(folder / "int8.onnx")
    write_model(rewrite(read_model(model.path), Scheme(ranges=ranges))[0], made.path)
    return float(np.square(answers(made) - truth).mean())


@pytest.mark.parametrize("gated", [False, True])
def test_what_stands_before_takes_the_factors(tmp_path: Path, gated: bool) -> None:
    model = block(tmp_path / "m.onnx", gated=gated)
    made = smoothed(model, tmp_path, multiply=False)
    before, after = (onnx.load(m.path).graph for m in (model, made))
    assert [n.op_type for n in after.node] == [n.op_type for n in before.node]
    gamma = {t.name: numpy_helper.to_array(t) for t in after.initializer}["gamma_smoothed"]
    assert gamma[list(LOUD)].max() < 20 and gamma.min() >= 0.5
    assert np.array_equal(answers(made), answers(model))
    # Every constant was replaced: nothing is stored twice.
    assert len(after.initializer) == len(before.initializer)


def join(model: OnnxModel, sizes: tuple[int, int], axis: int = -1) -> None:
    """Give the gated block one product whose columns a Split parts: the gate's, then the other's.

    The gate's bias is dropped with the Gemm, and the other's with its Add.
    """
    stored = onnx.load(model.path)
    held = {t.name: numpy_helper.to_array(t) for t in stored.graph.initializer}
    both = np.concatenate([held["gate"].T, held["up"]], axis=1)
    kept = [t for t in stored.graph.initializer if t.name not in {"gate", "up", "up_bias"}]
    kept += [numpy_helper.from_array(np.ascontiguousarray(both), "both")]
    kept += [numpy_helper.from_array(np.array(sizes, np.int64), "sizes")]
    nodes = [node for node in stored.graph.node if not {"u", "b", "g"} & {*node.output}]
    nodes[1:1] = [
        helper.make_node("MatMul", ["n", "both"], ["m"]),
        helper.make_node("Split", ["m", "sizes"], ["g", "b"], axis=axis),
    ]
    for field, values in (("node", nodes), ("initializer", kept)):
        stored.graph.ClearField(field)
        getattr(stored.graph, field).extend(values)
    onnx.save(stored, model.path)


def test_the_columns_of_a_joined_product_take_the_factors(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx", gated=True)
    join(model, (INNER, INNER))
    made = smoothed(model, tmp_path, multiply=False, alpha=0.7)
    held = [
        {t.name: numpy_helper.to_array(t) for t in onnx.load(one.path).graph.initializer}
        for one in (model, made)
    ]
    ratio = held[1]["both_smoothed_smoothed"] / held[0]["both"]
    rows = held[0]["gamma"] / held[1]["gamma_smoothed"]
    np.testing.assert_array_equal(ratio[:, :INNER], np.broadcast_to(rows[:, None], (WIDTH, INNER)))
    columns = held[0]["down"] / held[1]["down_smoothed"]  # what down was given, both gave up
    np.testing.assert_array_equal(ratio[:, INNER:], rows[:, None] * columns[:, 0])
    assert (columns != 1).any()
    assert np.array_equal(answers(made), answers(model))


def test_columns_that_are_not_known_take_none(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx", gated=True)
    join(model, (INNER, INNER))
    stored = onnx.load(model.path)
    split = next(node for node in stored.graph.node if node.op_type == "Split")
    for change in ("axis", "sizes"):
        if change == "axis":
            split.attribute[0].i = 1  # the last of two axes, which nothing here says
        else:
            del split.input[1]
            split.attribute[0].i = -1
            split.attribute.append(helper.make_attribute("num_outputs", 2))
        onnx.save(stored, model.path)
        named = read_model(model.path)
        name_nodes(named)
        assert [group.data for group in find_groups(named) if group.folds] == ["n"]


def test_factors_pass_a_change_of_layout(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    stored = onnx.load(model.path)
    shape = numpy_helper.from_array(np.array([-1, WIDTH], np.int64), "shape")
    stored.graph.initializer.append(shape)
    stored.graph.node[1].input[0] = "flat"
    stored.graph.node.insert(1, helper.make_node("Reshape", ["n", "shape"], ["flat"]))
    onnx.save(stored, model.path)
    named = read_model(model.path)
    name_nodes(named)
    assert [group.data for group in find_groups(named) if group.folds] == ["flat", "a"]
    made = smoothed(model, tmp_path, multiply=False)
    assert np.array_equal(answers(made), answers(model))


def test_loud_channels_cost_int8_less(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    truth = answers(model)
    made = smoothed(model, tmp_path, multiply=False)
    plain, smooth_error = (
        static_error(one, tmp_path / name, truth)
        for name, one in (("plain", model), ("smooth", made))
    )
    assert smooth_error < plain / 3


def test_a_residual_needs_a_node_of_its_own(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx", residual=True)
    stored = read_model(model.path)
    name_nodes(stored)
    first, second = find_groups(stored)
    assert not first.folds and "reads its input, too" in first.refused and second.folds
    folded = smoothed(model, tmp_path / "folded", multiply=False)
    multiplied = smoothed(model, tmp_path / "multiplied", multiply=True)
    for made, nodes in ((folded, 0), (multiplied, 1)):
        operators = [node.op_type for node in onnx.load(made.path).graph.node]
        assert operators.count("Mul") == nodes
        assert np.array_equal(answers(made), answers(model))
    truth = answers(model)
    assert static_error(multiplied, tmp_path / "b", truth) < (
        static_error(folded, tmp_path / "a", truth) / 3
    )


def test_a_shared_weight_and_an_output_are_left_alone(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    stored = onnx.load(model.path)
    stored.graph.node.append(helper.make_node("ReduceSum", ["down"], ["total"], keepdims=0))
    stored.graph.output.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, []))
    stored.graph.output.append(helper.make_tensor_value_info("n", TensorProto.FLOAT, None))
    onnx.save(stored, model.path)
    shared = read_model(model.path)
    name_nodes(shared)
    first, second = find_groups(shared)
    assert "outside the graph" in first.refused and first.weights
    assert "read by several nodes" in second.refused and not second.weights
    assert smoothable(shared, frozenset(), multiply=True) == [first]
    assert smoothable(shared, frozenset({first.layers[0].node}), multiply=True) == []


def test_factors_are_powers_of_two_that_even_out(tmp_path: Path) -> None:
    most = np.array([0.0, 1.0, 256.0, 4.0], np.float32)
    weight = np.array([[1.0], [1.0], [1.0], [0.0]], np.float32)
    factors = smoothing_factors(most, weight, 0.5)
    assert factors.tolist() == [1.0, 0.25, 4.0, 1.0]
    assert np.log2(factors).tolist() == np.round(np.log2(factors)).tolist()
    assert (smoothing_factors(np.ones(4, np.float32), weight, 0.5) == 1).all()


def test_alpha_is_the_one_of_the_least_error(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    stored = read_model(model.path)
    group = smoothable(stored, frozenset(), multiply=False)[0]
    seen = seen_of(model, [group.data], tmp_path / "observed")[group.data]
    weight = group_weight(stored, group)
    choice = choose_alpha(seen, weight)
    assert choice.error < choice.plain_error / 3
    assert choice.plain_error == layer_error(seen, weight, None)
    # Without loud channels there is nothing to gain, and nothing is done.
    even = np.random.default_rng(0).standard_normal((64, WIDTH)).astype(np.float32)
    even = np.clip(even, -2, 2)
    flat = type(seen)(even.min(axis=0), even.max(axis=0), even)
    assert choose_alpha(flat, np.ones_like(weight)).alpha is None


def test_a_loud_output_hides_no_other_ones_error() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((64, WIDTH)).astype(np.float32)
    rows[:, 0] *= 60  # read by the first output alone, which is loud by it
    weight = random.standard_normal((WIDTH, 8)).astype(np.float32)
    weight[0, 1:] = 0
    seen = Channels(rows.min(axis=0), rows.max(axis=0), rows)
    plain = layer_error(seen, weight, None)
    assert plain > 0.04  # over the sum of all squares it would be 0.008
    quieter = smoothing_factors(seen.most, weight, 0.9)
    assert layer_error(seen, weight, quieter) < plain / 100


def test_an_error_in_blocks_is_that_of_the_kernel(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    stored = read_model(model.path)
    group = smoothable(stored, frozenset(), multiply=False)[0]
    seen = seen_of(model, [group.data], tmp_path / "observed")[group.data]
    weight = group_weight(stored, group)
    choice = choose_alpha(seen, weight, block=16)
    assert choice.alpha is not None and choice.error < choice.plain_error
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", INNER])],
        [numpy_helper.from_array(weight, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, tmp_path / "product.onnx")
    product = read_model(tmp_path / "product.onnx")
    name_nodes(product)
    scheme = Scheme(linears="blocks", linear_bits=8, linear_block=16)
    write_model(rewrite(product, scheme)[0], tmp_path / "blocks.onnx")
    (found,) = open_session(OnnxModel(tmp_path / "blocks.onnx")).run(None, {"x": seen.rows})
    expected = seen.rows @ weight
    error = np.square(found - expected).sum() / np.square(expected).sum()
    assert choice.plain_error == pytest.approx(error, rel=0.05)
    assert choose_alpha(seen, weight[:, :1], block=16).plain_error > 0
    narrow = type(seen)(seen.low[:24], seen.high[:24], seen.rows[:, :24])
    assert choose_alpha(narrow, weight[:24], block=16).alpha is None  # no block of 16 divides 24


def test_statistics_are_exact_bounded_and_kept(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    observed = observe(model, ["n", "x"], tmp_path / "observed")
    found = collect_channels(stream(observed, ["n", "x"], feeds(600)), 600)
    everything = np.concatenate([feed["x"] for feed in feeds(600)])
    assert np.array_equal(found["x"].low, everything.min(axis=0))
    assert np.array_equal(found["x"].high, everything.max(axis=0))
    assert 300 < len(found["n"].rows) <= MOST_ROWS
    save_channels(found, tmp_path / "seen.npz")
    again = load_channels(tmp_path / "seen.npz")
    assert list(again) == ["n", "x"] and np.array_equal(again["n"].rows, found["n"].rows)
    assert np.array_equal(again["x"].most, found["x"].most)


def test_samples_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    model = block(tmp_path / "m.onnx")
    observed = observe(model, ["n"], tmp_path / "observed")
    bad = [next(feeds()), {"x": np.full((2, WIDTH), np.nan, np.float32)}]
    with pytest.raises(StageError, match="sample 2 holds NaN or infinite values in x"):
        list(stream(observed, ["n"], bad))
    with pytest.raises(StageError, match="sample 1 does not fit"):
        list(stream(observed, ["n"], [{"x": np.ones((2, 3), np.float32)}]))
    with pytest.raises(StageError, match="no sample"):
        list(stream(observed, ["n"], []))
