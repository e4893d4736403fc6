"""Activation ranges: exact, bounded in memory, blind to nothing that a sample holds."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.quantization.ranges import (
    BINS,
    entropy_threshold,
    histogram,
    measure_ranges,
    observe,
    percentile_range,
)
from edgecompress.values import OnnxModel


def doubling(path: Path) -> OnnxModel:
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["double"]),
            helper.make_node("Abs", ["double"], ["y"]),
        ],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )
    return OnnxModel(path)


def samples(count: int = 20) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = [(1, int(length)) for length in random.integers(1, 40, count)]
    return [{"x": random.standard_normal(shape).astype(np.float32)} for shape in shapes]


def test_minmax_is_exact_over_uneven_samples(tmp_path: Path) -> None:
    model = observe(doubling(tmp_path / "m.onnx"), ["double", "y"], tmp_path / "observed")
    said: list[str] = []
    found = measure_ranges(model, ["double", "y"], samples, progress=said.append)
    everything = 2 * np.concatenate([feed["x"].ravel() for feed in samples()])
    assert found["double"] == (float(everything.min()), float(everything.max()))
    assert found["y"][1] == float(np.abs(everything).max())
    assert len(said) == 20


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_methods_stay_inside_what_was_seen(tmp_path: Path, method: str) -> None:
    model = observe(doubling(tmp_path / "m.onnx"), ["double"], tmp_path / "observed")
    widest = measure_ranges(model, ["double"], samples)["double"]
    low, high = measure_ranges(model, ["double"], samples, method, 90.0)["double"]
    assert widest[0] <= low < 0 < high <= widest[1]
    if method == "percentile":
        assert low > widest[0] and high < widest[1]


def test_a_histogram_counts_every_value_as_numpy_does() -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    counts = histogram(values, low, high)
    assert counts.sum() == 5000
    # Single precision moves a value by one bin at most.
    expected = np.histogram(values, BINS, (low, high))[0]
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 3
    assert histogram(np.zeros(7, np.float32), 0.0, 0.0)[0] == 7


def test_percentiles_cut_equal_parts() -> None:
    low, high = percentile_range(np.ones(1000, np.int64), 0.0, 100.0, 90.0)
    assert low == pytest.approx(5.0, abs=0.2) and high == pytest.approx(95.0, abs=0.2)
    assert percentile_range(np.ones(10, np.int64), -1.0, 1.0, 100.0) == (-1.0, 1.0)


def test_entropy_clips_a_lonely_outlier_and_keeps_a_flat_range() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    values[0] = 40.0
    assert entropy_threshold(histogram(values, 0.0, 40.0), 40.0) < 10.0
    flat = np.random.default_rng(0).uniform(0, 8, 100_000).astype(np.float32)
    assert entropy_threshold(histogram(flat, 0.0, 8.0), 8.0) > 7.0


def test_what_cannot_be_calibrated_is_named(tmp_path: Path) -> None:
    model = doubling(tmp_path / "m.onnx")
    with pytest.raises(StageError, match="x is an input of the graph"):
        observe(model, ["x"], tmp_path / "observed")
    seen = observe(model, ["double"], tmp_path / "observed")
    with pytest.raises(StageError, match="no sample"):
        measure_ranges(seen, ["double"], list)
    infinite = {"x": np.array([[np.inf]], np.float32)}
    with pytest.raises(StageError, match="double is not finite"):
        measure_ranges(seen, ["double"], lambda: [infinite])
