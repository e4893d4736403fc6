"""LSTMs with int8 weights: bit by bit those of ONNX Runtime's quantizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import small_context
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic
from strange_graphs import FLOAT, Graph, strange_graph

from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.layers import find_layers, name_nodes
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.stages.quantize.weights import Weights
from edgecompress.values import Candidate, OnnxModel


def outputs(file: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return list(open_session(OnnxModel(file)).run(None, feed))


def sound(seed: int, count: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 2, 32)).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_its_weights_are_those_of_onnx_runtime(seed: int, tmp_path: Path) -> None:
    file = strange_graph("recurrent", tmp_path / "model.onnx", seed)
    made = check_stage(Dynamic(), Candidate(OnnxModel(file)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    quantize_dynamic(file, tmp_path / "theirs.onnx", per_channel=True)
    feed = {"x": sound(seed)}
    ours, theirs = (outputs(f, feed) for f in (made.model.path, tmp_path / "theirs.onnx"))
    for x, y in zip(ours, theirs, strict=True):
        assert np.array_equal(x, y)
    decided = made.steps[-1].decisions
    assert len(decided["int8_linears"]) == 2 and decided["exceptions"] == {}
    assert coverage(made.model).operators["DynamicQuantizeLSTM"] == 1


@pytest.mark.parametrize("fields", [{"per_channel": False}, {"preset": "portable"}])
def test_static_rounds_states_at_run_time(fields: dict[str, object], tmp_path: Path) -> None:
    file = strange_graph("recurrent", tmp_path / "model.onnx", 1)
    np.savez(tmp_path / "data.npz", x=np.stack([sound(n)[:, :1] for n in range(12)]))
    stage = Static(inputs=str(tmp_path / "data.npz"), **fields)  # type: ignore[arg-type]
    made = stage.apply(Candidate(OnnxModel(file)), small_context(tmp_path))
    assert isinstance(made.model, OnnxModel)
    assert coverage(made.model).operators["DynamicQuantizeLSTM"] == 1
    feed = {"x": sound(50)}
    for x, y in zip(outputs(file, feed), outputs(made.model.path, feed), strict=True):
        assert np.sqrt(np.mean((x - y) ** 2)) < 0.05 * x.std()
    assert made.model.path.stat().st_size < file.stat().st_size / 2


def cell(graph: Graph, data: str, **given: object) -> None:
    parts = [graph.weight("w", 1, 64, 32), graph.weight("r", 1, 64, 16), graph.weight("b", 1, 128)]
    graph.add("LSTM", [data, *parts], "o", "h", name="cell", hidden_size=16, **given)
    graph.add("MatMul", ["h", graph.weight("v", 16, 16)], "y")
    graph.output("y")


@pytest.mark.parametrize(
    ("why", "told"),
    [("infinite", "not finite"), ("excluded", "excluded"), ("blocks", "recurrent layers are")],
)
def test_one_that_stays_has_its_reason(why: str, told: str, tmp_path: Path) -> None:
    graph = Graph(0)
    graph.input("x", FLOAT, [5, "n", 32])
    cell(graph, "x")
    if why == "infinite":
        array = numpy_helper.to_array(graph.weights[1]).copy()
        array[0, 0, 0] = np.inf
        graph.weights[1].CopyFrom(numpy_helper.from_array(array, "r"))
    file = graph.save(tmp_path / "model.onnx")
    exclude = ("cell",) if why == "excluded" else ()
    stage = Weights() if why == "blocks" else Dynamic(exclude=exclude)
    made = stage.apply(Candidate(OnnxModel(file)), small_context(tmp_path))
    (reason,) = made.steps[-1].decisions["exceptions"].values()
    assert told in reason


def test_one_with_the_batch_first_is_refused(tmp_path: Path) -> None:
    graph = Graph(0)
    graph.input("x", FLOAT, ["n", 5, 32])
    cell(graph, "x", layout=1)
    stored = read_model(graph.save(tmp_path / "model.onnx"))
    name_nodes(stored)
    assert "batch first" in find_layers(stored)[0].refused
