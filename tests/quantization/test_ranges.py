"""Ranges from statistics: each method clips as it says, none is wider than what was seen."""

import numpy as np
import pytest

from edgecompress.quantization.observe.histograms import Seen
from edgecompress.quantization.observe.ranges import find_ranges, percentile_range


def seen_of(*samples: np.ndarray) -> Seen:
    seen = Seen()
    for sample in samples:
        seen.add(sample.astype(np.float32))
    return seen


def normal(count: int = 100_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


@pytest.mark.parametrize("method", ["average", "percentile", "entropy", "mse"])
def test_no_range_is_wider_than_what_was_seen(method: str) -> None:
    seen = seen_of(np.abs(normal(500)) - 0.1, 3 * np.abs(normal(800)))
    low, high = find_ranges({"x": seen}, method)["x"]  # type: ignore[arg-type]
    assert seen.low <= low < 0 < high <= seen.high


def test_minmax_and_average_take_the_ends() -> None:
    seen = seen_of(np.array([-1.0, 2.0]), np.array([-3.0, 8.0]))
    assert find_ranges({"x": seen})["x"] == (-3.0, 8.0)
    assert find_ranges({"x": seen}, "average")["x"] == (-2.0, 5.0)


def test_percentiles_cut_equal_parts() -> None:
    seen = seen_of(np.linspace(0, 100, 100_001))
    low, high = percentile_range(seen, 90.0)
    assert low == pytest.approx(5.0, abs=0.1) and high == pytest.approx(95.0, abs=0.1)


@pytest.mark.parametrize(("method", "most"), [("entropy", 10.0), ("mse", 39.0)])
def test_a_lonely_outlier_is_clipped_and_a_flat_range_kept(method: str, most: float) -> None:
    values = normal()
    values[0] = 40.0
    assert find_ranges({"x": seen_of(values)}, method)["x"][1] < most  # type: ignore[arg-type]
    flat = np.random.default_rng(0).uniform(-8, 8, 100_000)
    assert find_ranges({"x": seen_of(flat)}, method)["x"][1] > 7.5  # type: ignore[arg-type]


def test_mse_is_the_least_error_of_all_shrunk_ranges() -> None:
    values = np.concatenate([normal(50_000), 12 * normal(20)]).astype(np.float32)

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        zero = np.round(-low / scale)
        codes = np.clip(np.round(values / scale) + zero, 0, 255)
        return float(np.square((codes - zero) * scale - values).mean())

    seen = seen_of(values)
    found = error(*find_ranges({"x": seen}, "mse")["x"])
    others = [error(seen.low * share, seen.high * share) for share in (0.3, 0.5, 0.7, 0.9, 1.0)]
    assert found <= min(others) * 1.01


def test_constants_have_a_range() -> None:
    seen = seen_of(np.zeros(5))
    for method in ("minmax", "average", "percentile", "entropy", "mse"):
        low, high = find_ranges({"x": seen}, method)["x"]  # type: ignore[arg-type]
        assert low <= 0 <= high
