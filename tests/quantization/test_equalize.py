"""Channels between layers are evened out: fp32 answers stay to the bit, int8 comes nearer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.channel_pairs import find_pairs
from edgecompress.quantization.plan.planning import ready
from edgecompress.quantization.write.equalize import exponents_from
from edgecompress.stage import Decisions, check_stage
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel

make = helper.make_node
Nodes = list[onnx.NodeProto]


def write_graph(file: Path, nodes: Nodes, outputs: tuple[str, ...] = ("scores",)) -> OnnxModel:
    """Write nodes over weights whose channels differ a hundredfold."""
    random = np.random.default_rng(5)
    spread = np.exp2(random.uniform(-4, 4, 8))
    tensors = {
        "first": random.normal(size=(8, 3, 3, 3)) * spread[:, None, None, None] * 0.2,
        "bias": np.abs(random.normal(size=8)) * spread,
        "deep": random.normal(size=(8, 1, 3, 3)) * np.roll(spread, 3)[:, None, None, None],
        "wide": random.normal(size=(6, 4, 1, 1)) * 0.3,
        "head": random.normal(size=(5, 6)),
        "low": np.array(0.0),
        "high": np.array(40.0),
        "slope": np.abs(random.normal(size=(6, 1, 1))) * 0.1,
    }
    graph = helper.make_graph(
        nodes,
        "uneven",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 10, 10])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.float32(values), name) for name, values in tensors.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file
    )
    return OnnxModel(file)


def chain(between: Nodes) -> Nodes:
    """Four layers in a row; after the first come nodes from ``a`` to ``b``."""
    return [
        make("Conv", ["pixels", "first", "bias"], ["a"], "stem", pads=[1, 1, 1, 1]),
        *between,
        make("Conv", ["b", "deep"], ["c"], "depthwise", group=8),
        make("LeakyRelu", ["c"], ["d"], "leaky", alpha=0.1),
        make("MaxPool", ["d"], ["e"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["e", "wide"], ["f"], "grouped", group=2),
        make("PRelu", ["f", "slope"], ["g"], "learned"),
        make("GlobalAveragePool", ["g"], ["h"], "mean"),
        make("Flatten", ["h"], ["i"], "flat"),
        make("Gemm", ["i", "head"], ["scores"], "last", transB=1),
    ]


RELU = [make("Relu", ["a"], ["b"], "rectified")]
CLIP = [make("Clip", ["a", "low", "high"], ["b"], "cut")]


def samples(folder: Path) -> tuple[str, np.ndarray]:
    pixels = np.random.default_rng(6).normal(size=(16, 3, 10, 10)).astype(np.float32)
    np.save(folder / "pixels.npy", pixels)
    return str(folder / "pixels.npy"), pixels


def answers(model: OnnxModel, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(open_session(model).run(None, {"pixels": pixels})[0])


def test_one_scale_then_holds_all_channels(tmp_path: Path) -> None:
    source = Candidate(write_graph(tmp_path / "model.onnx", chain(RELU)))
    inputs, pixels = samples(tmp_path)
    expected = answers(source.model, pixels)
    error = {}
    for wanted in (False, True):
        stage = Static(inputs=inputs, per_channel=False, equalize=wanted)
        made = check_stage(stage, source, small_context(tmp_path / str(wanted)))
        gap = answers(made.model, pixels) - expected
        error[wanted] = np.square(gap).mean() / np.square(expected).mean()
    assert error[True] < 0.2 * error[False]
    assert set(exponents_from(made.steps[-1].decisions["equalized"])) == {"b", "e", "i"}


@pytest.mark.parametrize("between", [RELU, CLIP], ids=["relu", "clip"])
def test_fp32_answers_to_the_bit_as_before(between: Nodes, tmp_path: Path) -> None:
    from edgecompress.models.storage import write_model
    from edgecompress.quantization.observe.feature_maps import collect_maps
    from edgecompress.quantization.observe.observing import observing
    from edgecompress.quantization.write.equalize import equalize, equalizing_exponents

    model = write_graph(tmp_path / "model.onnx", chain(between))
    _, pixels = samples(tmp_path)
    stored = ready(read_model(model.path), static=True)
    pairs = find_pairs(stored)
    names = [pair.between for pair in pairs]
    with observing(model, names, tmp_path / "observed") as copy:
        seen = collect_maps(copy, names, ({"pixels": one[None]} for one in pixels))
    found = equalizing_exponents(stored, pairs, {n: one.most for n, one in seen.items()})
    equalize(stored, pairs, found)
    made = OnnxModel(tmp_path / "made.onnx")
    write_model(stored, made.path)
    assert [pair.bound for pair in pairs[1:]] == [np.inf, np.inf]
    assert np.array_equal(answers(made, pixels), answers(model, pixels))
    if between is CLIP:
        cut = seen["b"].most > 20
        assert pairs[0].bound == 40 and cut.any() and not found["b"][cut].any()
        assert found["b"].max() > 0 and found["b"].min() == 0


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("an output", {"e", "i"}),
        ("read twice", {"e", "i"}),
        ("not scalable", {"e", "i"}),
        ("a weight of two", {"i"}),
    ],
)
def test_what_others_read_is_left_alone(change: str, left: set[str], tmp_path: Path) -> None:
    nodes, outputs = chain(RELU), ["scores"]
    if change == "an output":
        outputs.append("b")
    elif change == "read twice":
        nodes.append(make("ReduceMax", ["b"], ["more"], "max"))
        outputs.append("more")
    elif change == "not scalable":
        nodes = chain([make("Sigmoid", ["a"], ["b"], "bent")])
    else:
        nodes.append(make("Conv", ["c", "deep"], ["more"], "again", group=8))
        outputs.append("more")
    model = write_graph(tmp_path / "model.onnx", nodes, tuple(outputs))
    stored = ready(read_model(model.path), static=True)
    assert {pair.between for pair in find_pairs(stored)} == left
    excluded = find_pairs(stored, frozenset({"grouped"}))
    assert not {"e", "i"} & {pair.between for pair in excluded}


def test_what_cannot_be_evened_out_is_said(tmp_path: Path) -> None:
    inputs, _ = samples(tmp_path)
    alone = [make("Conv", ["pixels", "first", "bias"], ["scores"], "stem")]
    source = Candidate(write_graph(tmp_path / "model.onnx", alone))
    with pytest.raises(StageError, match="equalize finds no two layers"):
        Static(inputs=inputs, equalize=True).apply(source, small_context(tmp_path / "a"))
    with pytest.raises(ValidationError, match="leave equalize out"):
        Static(ranges="qat", equalize=True)
    source = Candidate(write_graph(tmp_path / "model.onnx", chain(RELU)))
    stage = Static(inputs=inputs, equalize=True)
    made = stage.apply(source, small_context(tmp_path / "b"))
    record = json.loads(json.dumps(made.steps[-1].decisions))
    assert record["plan"]["fields"] == stage._fields_digest()
    for wrong, said in (
        ({"b": "AAA="}, "rules out"),
        ({"b": 3}, "no record"),
        (7, "no rec"),
    ):
        context = small_context(tmp_path / f"c{said}")
        with pytest.raises(StageError, match=said):
            stage.make(source, Decisions({**record, "equalized": wrong}), context)
