"""Bounds of a budget: numbers with the units of their metrics, and no others."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edgecompress.all_metrics import bounded
from edgecompress.engine.quantities import ENERGIES, KINDS, SIZES, TIMES, check_bound
from edgecompress.engine.quantities import parse_quantity as parse
from edgecompress.engine.recipe import build_recipe
from edgecompress.errors import RecipeError
from edgecompress.metrics import Metric
from edgecompress.yamlfile import YamlFile

BOUNDS = ("max", "min", "max_drop", "max_ratio", "min_ratio")
UNITS = {
    **dict.fromkeys(SIZES, "size"), **dict.fromkeys(TIMES, "time"),
    **dict.fromkeys(ENERGIES, "energy"), "": "none", "x": "share", "%": "share",
}  # fmt: skip


def kind_of(metric: Metric) -> str:
    for unit, kind in zip(KINDS, ("size", "time", "energy"), strict=True):
        if metric.unit == unit:
            return kind
    return {"x": "ratio", "fraction": "fraction"}.get(metric.unit, "plain")


def test_every_metric_with_every_unit():
    for metric, bound, unit in itertools.product(bounded(), BOUNDS, UNITS):
        kind = "ratio" if bound.endswith("_ratio") else kind_of(metric)
        fits = {
            "ratio": ("none", "share"), "plain": ("none",), "fraction": ("none",),
        }.get(kind, (kind,))  # fmt: skip
        right = UNITS[unit] in fits or (kind in ("fraction", "plain") and unit == "%")
        written = f"0.5{unit}" if unit else 0.5
        try:
            check_bound(metric, bound, written, float(parse(written)))
        except ValueError as error:
            assert not right, (metric, bound, unit, error)
            assert "\n" not in str(error)
        else:
            assert right, (metric, bound, unit)


def recipe(**budget: object) -> None:
    build_recipe(YamlFile({"name": "x", "model": "m.onnx", "budget": budget}, Path("r.yaml"), {}))


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"size": {"max": 25}}, r"budget\.size\.max: 25 has no unit.*such as 25MB"),
        ({"size": {"max": "5ms"}}, "5ms is no size"),
        ({"latency_p50@local": {"max": 5}}, "5 has no unit.*us, ms or s"),
        ({"peak_memory@local": {"min": "3x"}}, "3x is no size"),
        ({"energy": {"max": 2.5}}, "mJ or J"),
        ({"f1": {"max_drop": 1}}, "fraction from 0 to 1"),
        ({"accuracy": {"min": 90}}, "fraction from 0 to 1"),
        ({"accuracy": {"min": "3ms"}}, "no unit like ms"),
        ({"size": {"max_ratio": "5MB"}}, "a ratio is written as 0.5, 2x or 50%"),
    ],
)
def test_a_bound_that_means_something_else_is_refused(budget: dict, says: str):
    with pytest.raises(RecipeError, match=says):
        recipe(**budget)


def test_what_people_write_is_read():
    recipe(
        size={"max": "25MB", "max_ratio": 0.25}, f1={"max_drop": "1%"}, compression={"min": 4},
        latency_p50={"max": "5ms"}, speedup={"min": "2x"}, accuracy={"min": 0.9, "max": "100%"},
        memory_rise={"max": 0}, temperature={"max": 70}, energy={"max": "2J"},
    )  # fmt: skip
    assert [parse(text) for text in ("25MB", "2J", "1%", "3KiB")] == [25e6, 2000, 0.01, 3072]
