"""A calibration pass: exact, bounded, resumable, and the same in any order."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.quantization.observe.histograms import (
    BINS,
    SAVE_EVERY,
    Seen,
    collect,
    load_seen,
    save_seen,
)
from edgecompress.quantization.observe.observing import observe, without_padding
from edgecompress.quantization.observe.ranges import find_ranges, unfit_tensors
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


def samples(count: int = 20, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = [(1, int(length)) for length in random.integers(1, 40, count)]
    return [{"x": (scale * random.standard_normal(s)).astype(np.float32)} for s in shapes]


def same(first: Seen, second: Seen) -> bool:
    return (
        (first.low, first.high, first.samples, first.exponent)
        == (second.low, second.high, second.samples, second.exponent)
        and np.isclose(first.low_sum, second.low_sum)
        and np.array_equal(first.counts, second.counts)
    )


def test_ends_are_exact_over_uneven_samples(tmp_path: Path) -> None:
    model = observe(doubling(tmp_path / "m.onnx"), ["double", "y"], tmp_path / "observed")
    said: list[int] = []
    found = collect(model, ["double", "y"], samples(), progress=said.append)
    each = [2 * feed["x"].ravel() for feed in samples()]
    everything = np.concatenate(each)
    double = found["double"]
    assert (double.low, double.high) == (float(everything.min()), float(everything.max()))
    assert double.low_sum == pytest.approx(sum(float(v.min()) for v in each))
    assert double.counts.sum() == found["y"].counts.sum() == len(everything)
    assert found["y"].high == float(np.abs(everything).max())
    assert said == list(range(1, 21))


def test_a_histogram_counts_every_value_as_numpy_does() -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    seen = Seen()
    seen.add(values)
    assert seen.limit / 2 <= np.abs(values).max() < seen.limit
    expected = np.histogram(values, seen.edges)[0]
    # Single precision moves a value by one bin at most.
    assert np.abs(np.cumsum(seen.counts) - np.cumsum(expected)).max() <= 3


def test_the_order_of_the_samples_does_not_matter() -> None:
    parts = [f["x"] * np.float32(10.0**k) for k, f in enumerate(samples(7), -4)]
    rising, falling = Seen(), Seen()
    for part in parts:
        rising.add(part)
    for part in reversed(parts):
        falling.add(part)
    assert same(rising, falling)
    assert rising.counts.sum() == sum(part.size for part in parts)


def test_zeros_and_denormals_are_counted() -> None:
    seen = Seen()
    seen.add(np.zeros(3, np.float32))
    seen.add(np.full(2, 1e-40, np.float32))
    assert seen.counts[BINS // 2] == 5
    seen.add(np.array([-4.0, 4.0], np.float32))
    assert seen.counts.sum() == 7 and seen.counts[BINS // 2] == 5


def test_an_interrupted_pass_goes_on(tmp_path: Path) -> None:
    model = observe(doubling(tmp_path / "m.onnx"), ["double"], tmp_path / "observed")
    feeds = samples(SAVE_EVERY * 2 + 5)
    whole = collect(model, ["double"], feeds)

    def breaking():
        yield from feeds[: SAVE_EVERY + 3]
        raise KeyboardInterrupt

    state = tmp_path / "seen.npz"
    with pytest.raises(KeyboardInterrupt):
        collect(model, ["double"], breaking(), state=state)
    assert load_seen(state)[1] == SAVE_EVERY
    said: list[int] = []
    resumed = collect(model, ["double"], feeds, state=state, progress=said.append)
    assert said[0] == SAVE_EVERY + 1
    assert same(resumed["double"], whole["double"])
    # Damaged, or of other tensors: from the beginning.
    state.write_bytes(state.read_bytes()[:100])
    assert same(collect(model, ["double"], feeds, state=state)["double"], whole["double"])


def test_what_was_seen_survives_the_disk(tmp_path: Path) -> None:
    seen = {"a": Seen(), "b": Seen()}
    seen["a"].add(np.linspace(-3, 2, 100, dtype=np.float32))
    save_seen(seen, tmp_path / "seen.npz", 9)
    found, done = load_seen(tmp_path / "seen.npz")
    assert done == 9 and list(found) == ["a", "b"]
    assert same(found["a"], seen["a"]) and found["b"].samples == 0
    assert [p.name for p in tmp_path.iterdir()] == ["seen.npz"]


def test_an_input_of_the_graph_is_seen_in_the_samples(tmp_path: Path) -> None:
    model = observe(doubling(tmp_path / "m.onnx"), ["x", "double"], tmp_path / "observed")
    seen = collect(model, ["x", "double"], samples(4))
    assert seen["double"].high == 2 * seen["x"].high > 0
    assert collect(model, ["x"], samples(4))["x"].samples == 4


def test_padding_is_left_out_where_the_mask_tells_it() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    feed = {"attention_mask": np.array([[1, 1, 0], [0, 1, 1]])}
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    assert without_padding(values, feed).ravel().tolist() == kept
    assert without_padding(values.reshape(6, 2), feed).ravel().tolist() == kept
    assert without_padding(values.reshape(3, 4), feed).size == 12
    assert without_padding(values, {}).size == 12


def test_what_cannot_be_calibrated_is_named(tmp_path: Path) -> None:
    model = doubling(tmp_path / "m.onnx")
    seen = observe(model, ["double"], tmp_path / "observed")
    with pytest.raises(StageError, match="no sample"):
        collect(seen, ["double"], [])
    good = samples(1)
    for bad in (np.inf, np.nan):
        wrong = {"x": np.array([[bad]], np.float32)}
        with pytest.raises(StageError, match="sample 2 holds NaN or infinite values in x"):
            collect(seen, ["double"], [*good, wrong])
    with pytest.raises(StageError, match="sample 1 does not fit the model"):
        collect(seen, ["double"], [{"x": np.zeros((1, 2), np.int64)}])


def test_ranges_that_8_bits_cannot_hold_are_told(tmp_path: Path) -> None:
    """An activation that overflows, and one whose range is a mask's; others keep theirs."""
    model = doubling(tmp_path / "m.onnx")
    observed = observe(model, ["double"], tmp_path / "observed")
    huge = {"x": np.array([[1.0, 3e38]], np.float32)}  # its double is infinite
    seen = collect(observed, ["double"], [huge, *samples(2)])
    assert not seen["double"].finite and find_ranges(seen) == {}
    assert unfit_tensors(seen) == {"double": "its input has values that are not finite"}
    masked = {"x": np.array([[0.25, -0.5, 1.5, -5e8]], np.float32)}
    seen = collect(observed, ["double"], [masked])
    assert unfit_tensors(seen) == {"double": "its input reaches -1e+09, as masks do"}
    large = {"x": np.linspace(-5e8, 5e8, 1000, dtype=np.float32)[None]}  # large, and no mask
    seen = collect(observed, ["double"], [large])
    assert unfit_tensors(seen) == {} and find_ranges(seen) == {"double": (-1e9, 1e9)}
