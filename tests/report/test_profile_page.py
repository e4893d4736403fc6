"""What ``edgecompress profile`` prints: a part for each target, at 80 columns."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from edgecompress.api.measurements import Evaluation
from edgecompress.report.document import measurement_lines
from edgecompress.report.profile_page import profile_page
from edgecompress.report.terminal import print_page
from edgecompress.values import Measurement

BUSY = "other load: the process had its core for 41% of the time; stop other work"


def ms(metric: str, value: float, target: str = "local", **more: object) -> Measurement:
    return Measurement(metric, value, "ms", target, samples=400, **more)  # type: ignore[arg-type]


def operator(name: str, value: float, **conditions: object) -> Measurement:
    conditions = {"share": value / 2, "calls": 2.0, "layers": [], **conditions}
    return ms("operator_time", value, slice=f"operator:{name}", conditions=conditions)


def printed(found: list[Measurement], reference: str | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80, highlight=False)
    print_page(profile_page("m.onnx", found, reference), console)
    text = stream.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    return text


def squeezed(text: str) -> str:
    return " ".join(text.split())


SIZE = [
    Measurement("size", 4.2e6, "bytes"),
    Measurement("parameters", 1e6, "count"),
    Measurement("compression", 3.9, "x"),
]


def test_each_target_has_its_part():
    text = squeezed(
        printed(
            [
                *SIZE,
                ms("latency_p50", 1.234, interval=(1.2, 1.3), conditions={"threads": 1}),
                ms("latency_p50", 9.1, "pi4"),
                Measurement("instructions", 2_800_800.0, "count", "emulated://cortex-a72"),
            ],
            reference="old.onnx",
        )
    )
    assert text.startswith("m.onnx 4.20 MB, 1,000,000 parameters, old.onnx is 3.90× as large")
    local, pi4, emulated = text.split(" On ")[1:]
    assert "Latency p50 1.23 ms 1.20–1.30 400" in local
    assert "1 thread" in local
    assert "not measured: memory; energy (no meter); instructions (emulated" in local
    assert "9.10 ms" in pi4
    assert "2,800,800" in emulated
    assert "latency (emulated time means nothing); memory (nor does emulated memory)" in emulated


def test_a_reason_stands_once_below_the_numbers():
    text = printed(
        [ms("latency_p50", 1, invalid=BUSY), ms("latency_p90", 2, invalid=BUSY),
         ms("latency_p99", 3, invalid="too few samples")]
    )  # fmt: skip
    assert "1.00 ms¹" in text
    assert "2.00 ms¹" in text
    assert "3.00 ms²" in text
    assert squeezed(text).count(BUSY) == 1
    assert squeezed(text).endswith("² invalid: too few samples")


def test_a_target_that_failed_says_why_and_nothing_else():
    why = "pi4: the connection was lost; the same command measures what is missing"
    lost = Measurement("profile", math.nan, "count", "pi4", samples=0, invalid=why)
    text = squeezed(printed([*SIZE, ms("latency_p50", 1), lost]))
    assert f"On pi4 failed: {why}" in text
    assert "not measured" not in text.partition("On pi4")[2]


def test_what_could_not_be_had_is_no_number():
    absent = Measurement("energy", math.nan, "mJ", "local", samples=0, invalid="no meter; buy one")
    text = squeezed(printed([ms("latency_p50", 1), absent]))
    assert "not measured: energy per inference (no meter; buy one); memory" in text
    assert "nan" not in text
    assert "–" not in text


def test_variants_have_tables_of_their_own():
    text = squeezed(
        printed(
            [
                ms("latency_p50", 4),
                ms("latency_p50", 2.5, slice="threads:2"),
                ms("latency_p90", 2.75, slice="threads:2"),
                ms("latency_p50", 1.5, slice="threads:4", invalid=BUSY),
                Measurement("throughput", 812.0, "1/s", "local", slice="batch:8"),
            ]
        )
    )
    assert "With other numbers of threads p50 p90 2 2.50 ms 2.75 ms 4 1.50 ms¹" in text
    assert "In batches Throughput 8 812 per s" in text


def test_operators_and_layers_by_the_time_they_took():
    layers = [{"name": f"/{'deep/' * 20}{n}/MatMul", "ms": n, "share": n / 9} for n in range(3)]
    many = [operator(f"Op{n}", 0.1 * n) for n in range(11)]
    floats = {f"node{n}": "it has no constant weight" for n in range(5)}
    text = printed(
        [ms("latency_p50", 4), *many, operator("MatMul", 2, layers=layers, float=floats)]
    )
    flat = squeezed(text)
    assert "time share calls MatMul 2.00 ms 100.0 % 2 Op10 1.00 ms 50.0 % 2 Op9" in flat
    assert "and 2 more; --json gives all" in flat
    assert flat.index("/2/MatMul") < flat.index("/1/MatMul")
    assert "5 nodes of the quantized graph stayed in floating point" in flat
    assert "node0: it has no constant weight" in flat
    assert "and 2 more; --json gives all" in flat


def test_a_comparison_names_what_it_is_against():
    ratio = Measurement("speedup", 1.8, "x", "local", interval=(1.7, 1.9), samples=400)
    text = squeezed(printed([ms("latency_p50", 1), ratio], reference="before.onnx"))
    assert "Speed against before.onnx 1.80× 1.70–1.90 400" in text


@pytest.mark.parametrize("hostile", ["\x1b[31mred", "[bold]x[/bold]", "a\nb"])
def test_names_are_only_text(hostile):
    text = printed([operator(hostile, 1.0), ms("latency_p50", 1, invalid=hostile)])
    assert "\x1b[31m" not in text
    assert hostile.replace("\x1b", "").replace("\n", " ") in text


def test_json_has_no_nan():
    """Neither in values nor in intervals and conditions, whichever command writes the lines."""
    absent = Measurement("energy", math.nan, "mJ", "local", samples=0, invalid="no meter")
    odd = Measurement(
        "f1", math.nan, "fraction", interval=(0.1, math.inf), conditions={"x": [math.nan]}
    )
    lines = measurement_lines([ms("latency_p50", 1.5), absent, odd], model="m.onnx").splitlines()
    first, second, third = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert next(iter(first)) == "model" and first["model"] == "m.onnx"
    assert first["value"] == 1.5
    assert second["value"] is None
    assert second["invalid"] == "no meter"
    assert third["value"] is None and third["interval"] is None and third["invalid"]
    scored = Evaluation("m", "test", (odd,)).to_json_lines()
    assert json.loads(scored, parse_constant=pytest.fail)["conditions"] == {"x": [None]}
