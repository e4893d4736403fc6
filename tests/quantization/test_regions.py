"""Convolutions and what lies between them run as integers, close to fp32."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper
from strange_graphs import Graph, strange_graph

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.normalizations import fold_normalizations
from edgecompress.quantization.graphs.regions import (
    find_regions,
    least_scales,
    quantize_bias,
    quantize_filters,
)
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel

make = helper.make_node
PIXELS = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 16, 16])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network with every operator of a region, exported by torch, BatchNorm folded."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
            )
            self.pool = nn.MaxPool2d(2)
            self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU6())
            self.second = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.gate = nn.Conv2d(16, 16, 1)
            self.head = nn.Linear(32, 5)

        def forward(self, pixels):
            low = self.pool(self.stem(pixels))
            both = torch.relu(self.second(self.first(low)) + low)
            gated = both * torch.sigmoid(self.gate(both.mean((2, 3), keepdim=True)))
            joined = torch.cat([gated, low], 1)
            pooled = nn.functional.adaptive_avg_pool2d(joined, 1)
            return self.head(torch.flatten(pooled, 1))

    module = Network().train()
    with torch.no_grad():
        module(torch.randn(8, 3, 16, 16))
    file = tmp_path_factory.mktemp("cnn") / "model.onnx"
    torch.onnx.export(
        module.eval(),
        (torch.randn(1, 3, 16, 16),),
        str(file),
        input_names=["pixels"],
        output_names=["y"],
        dynamic_axes={"pixels": {0: "batch"}, "y": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    pixels = np.random.default_rng(0).standard_normal((12, 3, 16, 16)).astype(np.float32)
    np.savez(file.with_name("calib.npz"), pixels=pixels)
    return file


@pytest.fixture(scope="module")
def first(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """The network in int8."""
    stage = Static(inputs=str(network.with_name("calib.npz")))
    context = small_context(tmp_path_factory.mktemp("first"))
    return stage.apply(Candidate(OnnxModel(network)), context)


def error(first: Path, second: Path, feed: dict[str, np.ndarray]) -> float:
    expected, given = (open_session(OnnxModel(file)).run(None, feed)[0] for file in (first, second))
    return float(np.abs(expected - given).mean() / expected.std())


@pytest.mark.parametrize(
    "fields", [{}, {"per_channel": False}, {"preset": "portable"}, {"activation": "int8"}]
)
def test_a_network_is_all_integers(
    network: Path, tmp_path: Path, fields: dict[str, object]
) -> None:
    data = network.with_name("calib.npz")
    stage = Static(inputs=str(data), **fields)  # type: ignore[arg-type]
    made = check_stage(stage, Candidate(OnnxModel(network)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    with np.load(data) as stored:
        pixels = stored["pixels"]
    found = coverage(made.model, [{"pixels": pixels[:1]}])
    assert made.steps[-1].decisions["exceptions"] == {}
    assert not found.fp32_linears and len(found.int8_linears) == 5
    assert found.operators["QLinearConv"] == 4 and found.operators["QLinearAdd"] == 1
    assert found.operators["QLinearConcat"] == 1
    assert found.operators["QLinearGlobalAveragePool"] == 2  # one is written as a mean
    assert not {"Relu", "Clip", "Conv", "Add"} & set(found.operators) - {"Add"}
    assert error(network, made.model.path, {"pixels": pixels}) < 0.06


def test_an_excluded_convolution_and_what_hangs_on_it_stay(network: Path, tmp_path: Path) -> None:
    name = next(n.name for n in onnx.load(network).graph.node if n.op_type == "Conv")
    stage = Static(inputs=str(network.with_name("calib.npz")), exclude=(name,))
    made = stage.apply(Candidate(OnnxModel(network)), small_context(tmp_path))
    decided = made.steps[-1].decisions
    assert list(decided["exceptions"].values()) == ["excluded by the recipe"]
    assert len(decided["int8_linears"]) == 4 and "pixels" not in decided["ranges"]


@pytest.mark.parametrize("fields", [{}, {"method": "average", "exclude": True}])
def test_a_recorded_plan_is_followed_without_observing(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    convolutions = [n.name for n in onnx.load(network).graph.node if n.op_type == "Conv"]
    given = {**fields, "exclude": tuple(convolutions[:1] if "exclude" in fields else ())}
    stage = Static(inputs=str(network.with_name("calib.npz")), **given)  # type: ignore[arg-type]
    candidate = Candidate(OnnxModel(network))
    first = stage.apply(candidate, small_context(tmp_path / "a"))
    record = json.loads(json.dumps(first.steps[-1].decisions))
    assert len(json.dumps(record["plan"])) < 4_000  # no weights
    monkeypatch.setattr(f"{Static.__module__}.seen_on", None)  # nothing is observed
    again = stage.apply(candidate, small_context(tmp_path / "b"), record)
    assert again.model.path.read_bytes() == first.model.path.read_bytes()
    assert again.steps[-1].decisions == first.steps[-1].decisions


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["plan"].update(fields="of another method"),
        lambda record: record["plan"]["layers"][0].update(kernel="table"),
        lambda record: record["plan"]["layers"][0].update(kernel="blocks"),
        lambda record: record["plan"]["layers"][0]["nodes"].append("nowhere"),
        lambda record: record["plan"]["layers"][0]["nodes"].pop(),
        lambda record: record["plan"]["pairs"].clear(),
        lambda record: record["ranges"].clear(),
        lambda record: record.pop("plan"),
    ],
)
def test_a_plan_of_another_graph_or_other_fields_is_made_anew(
    network: Path, first: Candidate, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    stage = Static(inputs=str(network.with_name("calib.npz")))
    record = json.loads(json.dumps(first.steps[-1].decisions))
    change(record)
    candidate = Candidate(OnnxModel(network))
    again = stage.apply(candidate, small_context(tmp_path), record)
    assert again.model.path.read_bytes() == first.model.path.read_bytes()
    assert again.steps[-1].decisions == first.steps[-1].decisions


def test_a_malformed_plan_is_refused(network: Path, tmp_path: Path) -> None:
    stage = Static(inputs=str(network.with_name("calib.npz")))
    for plan in ({"layers": [{"kernel": "odd", "nodes": []}]}, {"layers": {"a": 1}}, []):
        record = {"plan": plan, "ranges": {}, "calibrated_on": 1}
        with pytest.raises(StageError, match="no plan"):
            stage.apply(Candidate(OnnxModel(network)), small_context(tmp_path), record)


def test_dynamic_leaves_convolutions_with_a_reason(network: Path, tmp_path: Path) -> None:
    made = Dynamic().apply(Candidate(OnnxModel(network)), small_context(tmp_path))
    decided = made.steps[-1].decisions
    assert len(decided["int8_linears"]) == 1
    assert set(decided["exceptions"].values()) == {
        "convolutions are quantized by quantize.static only"
    }


def write(file: Path, nodes: list[onnx.NodeProto], outputs: list[str]) -> OnnxModel:
    random = np.random.default_rng(1)
    weights = {"w": random.standard_normal((8, 3, 3, 3)), "b": random.standard_normal(8)}
    graph = helper.make_graph(
        nodes,
        "graph",
        [PIXELS],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8, "h", "w"])
            for name in outputs
        ],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return OnnxModel(file)


def test_outputs_in_the_middle_keep_their_names(tmp_path: Path) -> None:
    nodes = [
        make("Conv", ["pixels", "w", "b"], ["a"], "conv"),
        make("Relu", ["a"], ["r"], "relu"),
        make("Softmax", ["a"], ["s"], "softmax"),
    ]
    model = write(tmp_path / "m.onnx", nodes, ["a", "r", "s"])
    pixels = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "calib.npy", pixels)
    stage = Static(inputs=str(tmp_path / "calib.npy"))
    made = stage.apply(Candidate(model), small_context(tmp_path)).model
    assert isinstance(made, OnnxModel)
    sessions = [open_session(each) for each in (model, made)]
    assert [value.name for value in sessions[1].get_outputs()] == ["a", "r", "s"]
    outputs = [session.run(None, {"pixels": pixels}) for session in sessions]
    for expected, given in zip(*outputs, strict=True):
        assert np.abs(expected - given).mean() < 0.03 * expected.std()
    with pytest.raises(StageError, match=r"conv: convolutions are quantized by quantize\.static"):
        Dynamic().apply(Candidate(model), small_context(tmp_path / "dynamic"))


def test_filters_and_biases_behind_an_identity_are_found(tmp_path: Path) -> None:
    """Exporters write equal initializers once: two convolutions share theirs through Identity."""
    nodes = [
        make("Identity", ["b"], ["b1"], "same"),
        make("Identity", ["b1"], ["b2"], "same again"),
        make("Identity", ["w"], ["w2"], "same filters"),
        make("Conv", ["pixels", "w", "b"], ["a"], "first"),
        make("Conv", ["pixels", "w2", "b2"], ["c"], "second"),
        make("Add", ["a", "c"], ["y"], "sum"),
    ]
    model = write(tmp_path / "m.onnx", nodes, ["y"])
    pixels = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "calib.npy", pixels)
    made = Static(inputs=str(tmp_path / "calib.npy")).apply(
        Candidate(model), small_context(tmp_path)
    )
    assert isinstance(made.model, OnnxModel)
    assert made.steps[-1].decisions["exceptions"] == {}
    assert len(coverage(made.model, [{"pixels": pixels[:1]}]).int8_linears) == 2
    expected, given = (
        open_session(each).run(None, {"pixels": pixels})[0] for each in (model, made.model)
    )
    assert np.abs(expected - given).mean() < 0.03 * expected.std()


def test_regions_end_where_something_is_not_int8() -> None:
    nodes = [
        make("Conv", ["x", "w"], ["a"], "conv"),
        make("Clip", ["a", "low"], ["c"], "clip"),
        make("Reshape", ["c", "shape"], ["d"], "reshape"),
        make("Add", ["d", "other"], ["e"], "sum"),
        make("Relu", ["e"], ["f"], "relu"),
        make("Conv", ["f", "w"], ["g"], "left alone"),
    ]
    found = find_regions(nodes, ["g"], {"conv"})
    assert found.sources == {"x": "x", "c": "c", "d": "c"}
    assert found.ranges_of == ["x", "c"]
    assert find_regions(nodes, ["g"], set()).sources == {}
    # A result that someone else reads, too, is not folded away.
    shared = [nodes[0], nodes[1], make("Exp", ["a"], ["h"], "exp")]
    assert set(find_regions(shared, ["c", "h"], {"conv"}).sources) == {"x", "a"}


def test_filters_and_bias_are_scaled_by_output() -> None:
    weight = np.stack([np.full((2, 3, 3), size, np.float32) for size in (0.5, -4)])
    made = quantize_filters(weight, per_channel=True, reduce_range=False)
    assert made.values.shape == weight.shape and made.scale.shape == (2,)
    assert np.abs(made.values * made.scale[:, None, None, None] - weight).max() < 1e-6
    bias = np.array([1.0, 2.0], np.float32)
    codes, scale = quantize_bias(bias, np.float32(0.5), made.scale)
    assert np.array_equal(codes, np.round(bias / (0.5 * made.scale)))
    assert np.allclose(scale, 0.5 * made.scale)


def test_scales_grow_until_the_bias_fits() -> None:
    """Channels of small, tiny and no weights, as pruning and folded normalizations leave them."""
    weight = np.stack([np.full((2, 3, 3), size, np.float32) for size in (0.5, 1e-9, 0, 0)])
    bias, data = np.array([1.0, 3.0, -0.4, 0], np.float32), np.float32(0.02)
    plain = quantize_filters(weight, per_channel=True, reduce_range=False)
    with pytest.raises(StageError, match="does not fit into 32 bits"):
        quantize_bias(bias, data, plain.scale)
    least = least_scales(bias, data)
    made = quantize_filters(weight, per_channel=True, reduce_range=False, least=least)
    codes, scale = quantize_bias(bias, data, made.scale)
    assert np.abs(codes * scale.astype(np.float64) - bias).max() < 1e-6
    assert np.array_equal(made.values[0], plain.values[0]) and made.scale[0] == plain.scale[0]
    assert made.scale[3] == plain.scale[3] == 1  # nothing to fit


def test_a_weight_of_many_convolutions_is_stored_once(tmp_path: Path) -> None:
    file = strange_graph("one filter bank", tmp_path / "model.onnx", 0)
    sound = np.random.default_rng(0).standard_normal((12, 1, 256)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=sound)
    stage = Static(inputs=str(tmp_path / "data.npz"))
    made = stage.apply(Candidate(OnnxModel(file)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    decided = made.steps[-1].decisions
    assert decided["exceptions"] == {} and len(decided["int8_linears"]) == 6
    tensors = onnx.load(made.model.path).graph.initializer
    banks = [t for t in tensors if t.data_type == TensorProto.INT8 and list(t.dims) == [16, 1, 32]]
    assert len(banks) == 1
    assert error(file, made.model.path, {"x": sound}) < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_normalizations_that_an_export_left_are_folded(seed: int, tmp_path: Path) -> None:
    file = strange_graph("unfolded", tmp_path / "model.onnx", seed)
    pixels = np.random.default_rng(seed).standard_normal((12, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=pixels)
    made = Static(inputs=str(tmp_path / "data.npz")).apply(
        Candidate(OnnxModel(file)), small_context(tmp_path)
    )
    assert isinstance(made.model, OnnxModel)
    found = coverage(made.model, [{"x": pixels[:1]}])
    assert found.operators["QLinearConv"] == 4 and "BatchNormalization" not in found.operators
    assert made.steps[-1].decisions["exceptions"] == {}
    assert error(file, made.model.path, {"x": pixels}) < 0.1


@pytest.mark.parametrize("why", ["read twice", "an output", "moments of the batch", "no constant"])
def test_a_normalization_that_cannot_be_folded_stays(why: str, tmp_path: Path) -> None:
    graph = Graph(0)
    graph.input("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph.add("Conv", ["x", graph.weight("w", 4, 3, 3, 3)], "c")
    parts = [graph.weight(part, 4) for part in ("gamma", "beta", "mean")]
    graph.weights.append(numpy_helper.from_array(np.ones(4, np.float32), "var"))
    if why == "no constant":
        graph.input("shift", TensorProto.FLOAT, [4])
        parts[1] = "shift"
    training = {"training_mode": 1} if why == "moments of the batch" else {}
    graph.add("BatchNormalization", ["c", *parts, "var"], "n", **training)
    graph.add("Add", ["n", "c"] if why == "read twice" else ["n", "n"], "y")
    graph.output("y")
    if why == "an output":
        graph.output("c")
    stored = read_model(graph.save(tmp_path / "model.onnx"))
    fold_normalizations(stored)
    assert [node.op_type for node in stored.proto.graph.node][1] == "BatchNormalization"


def test_an_old_file_has_integer_kernels_when_it_is_upgraded(tmp_path: Path) -> None:
    graph = Graph(0)
    graph.input("x", TensorProto.FLOAT, [1, 3, 8, 8])
    last, channels = "x", 3
    for number in range(3):
        parts = [graph.weight(f"w{number}", 8, channels, 3, 3), graph.weight(f"b{number}", 8)]
        last, channels = graph.add("Conv", [last, *parts], f"y{number}", pads=[1, 1, 1, 1]), 8
    graph.output(last)
    for tensor in graph.weights:  # as files before format 4 list them
        graph.inputs.append(helper.make_tensor_value_info(tensor.name, 1, tensor.dims))
    file = graph.save(tmp_path / "model.onnx", 9, 3)
    pixels = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=pixels)
    stage = Static(inputs=str(tmp_path / "data.npz"), exclude=("w1",))
    made = stage.apply(Candidate(OnnxModel(file)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    assert [value.name for value in onnx.load(made.model.path).graph.input] == ["x"]
    found = coverage(made.model, [{"x": pixels[:1]}])
    assert found.operators["QLinearConv"] == 2 and len(found.fp32_linears) == 1


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_what_stays_in_fp32_between_integers_is_computed_in_fp32(op: str, tmp_path: Path) -> None:
    graph = Graph(0)
    graph.input("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph.add("Conv", ["x", graph.weight("w0", 8, 3, 3, 3)], "a", pads=[1, 1, 1, 1])
    if op == "Gemm":
        graph.add("Flatten", ["a"], "f")
        graph.add(
            "Gemm", ["f", graph.weight("w1", 512, 64), graph.weight("b1", 64)], "g", alpha=0.5
        )
        graph.add("Reshape", ["g", graph.ints("shape", -1, 1, 8, 8)], "b")
    else:
        parts = [graph.weight("w1", 8, 8, 3, 3), graph.weight("b1", 8)]
        graph.add(op, ["a", *parts], "b", name="kept", pads=[1, 1, 1, 1])
    last = graph.weight("w2", 4, 1 if op == "Gemm" else 8, 3, 3)
    graph.add("Conv", ["b", last], "y", pads=[1, 1, 1, 1])
    graph.output("y")
    file = graph.save(tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=pixels)
    exclude = ("kept",) if op == "Conv" else ()
    stage = Static(inputs=str(tmp_path / "data.npz"), exclude=exclude)
    made = stage.apply(Candidate(OnnxModel(file)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    found = coverage(made.model, [{"x": pixels[:1]}])
    assert found.operators["QLinearConv"] == 2 and op in found.operators
    assert [part.weight for part in found.fp32_linears] == ["w1"]
