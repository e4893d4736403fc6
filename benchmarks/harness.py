"""What the measuring costs: the null model, a bare loop beside the harness, nine models in a row.

Run ``python benchmarks/harness.py`` (some four minutes on a machine with nothing else to do), or
one part of it: ``null``, ``bare``, ``nine``. It exits with 1 when a bound is not kept:

- ``null``: a call of the model that does nothing takes under 20 µs.
- ``bare``: the median that the harness gives of a model of about 1 ms agrees with that of a bare
  loop around ONNX Runtime, in processes of equal settings that take turns. Two processes of the
  same program differ too, so the interval is that of the median over processes.
- ``nine``: profiling nine models for ten seconds each takes at most 1.3 × those 90 s.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecompress.disturbance import Loop
from edgecompress.intervals import interval_ranks
from edgecompress.targets.agent.arrays import unpack
from edgecompress.targets.base import Clock, Job
from edgecompress.targets.inputs import timing_feeds
from edgecompress.targets.jobs import write_job
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.targets.process import agent_environment
from edgecompress.timing import Series, percentile
from edgecompress.values import Candidate, Measurement, OnnxModel

NULL_LIMIT_MS = 0.020
NINE, SECONDS_EACH, FACTOR = 9, 10.0, 1.3
BARE = """
import gc, json, sys, time
import numpy as np, onnxruntime as ort
path, inputs, seconds, warmup = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feeds = [{"x": row} for row in np.load(inputs)["x"]]
end = time.perf_counter() + warmup
while time.perf_counter() < end:
    for feed in feeds:
        session.run(["y"], feed)
gc.collect(); gc.disable()
clock, found = time.perf_counter_ns, []
end = clock() + seconds * 1e9
while clock() < end:
    for feed in feeds:
        start = clock()
        session.run(["y"], feed)
        found.append(clock() - start)
print(json.dumps(found))
"""


def perceptron(path: Path, width: int, layers: int) -> Candidate:
    """Write a graph of `layers` matrix products of `width`², on eight rows."""
    generator = np.random.default_rng(width)
    nodes, weights, value = [], [], "x"
    for index in range(layers):
        weight = generator.standard_normal((width, width), np.float32) / width**0.5
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        last = "y" if index == layers - 1 else f"r{index}"
        nodes += [helper.make_node("MatMul", [value, f"w{index}"], [f"m{index}"])]
        nodes += [helper.make_node("Relu", [f"m{index}"], [last])]
        value = last
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, width])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return Candidate(OnnxModel(path))


def by_metric(found: Sequence[Measurement]) -> dict[str, Measurement]:
    """Give measurements by their names."""
    return {measured.metric: measured for measured in found}


def null(folder: Path, seconds: float) -> bool:
    """Time the model that does nothing beside one of some 0.1 ms."""
    clock = Clock(min_duration_ms=seconds * 1e3)
    small = perceptron(folder / "small.onnx", 256, 2)
    timed = time_candidates([small], (), clock, Local())
    found = timed.overhead(1)
    p99 = np.quantile(timed.readings.series[1].ns, 0.99) / 1e3
    click.echo(
        f"null model: p50 {found.value * 1e3:.2f} µs, p99 {p99:.2f} µs a call "
        f"({found.samples} calls; at most {NULL_LIMIT_MS * 1e3:.0f} µs)"
    )
    return found.value < NULL_LIMIT_MS


def about_a_millisecond(folder: Path) -> Candidate:
    """Find a graph whose inference takes about 1 ms here."""
    layers = 8
    for _ in range(6):
        candidate = perceptron(folder / f"{layers}.onnx", 512, layers)
        clock = Clock(min_duration_ms=1000.0, min_count=50)
        timed = time_candidates([candidate], (), clock, Local())
        p10 = (
            float(np.quantile(timed.readings.series[0].ns, 0.1)) / 1e6
        )  # what others cost is not its
        if 0.7 < p10 < 1.4:
            break
        layers = max(1, round(layers / p10))
    return candidate


def bare(folder: Path, seconds: float, repeats: int) -> bool:
    """Let harness and bare loop take turns, in a fresh process each."""
    candidate = about_a_millisecond(folder)
    assert isinstance(candidate.model, OnnxModel)
    graph = candidate.model.path
    clock = Clock(min_duration_ms=seconds * 1e3, min_count=50)
    job = Job("time", (), tuple(timing_feeds([candidate], (), 16)[0]), **clock.fields())
    write_job(job, folder / "job", lambda files: str(files[0]))
    with np.load(folder / "job" / "inputs.npz") as stored:
        np.savez(folder / "rows.npz", x=np.stack(unpack("0/x", dict(stored))))
    warmups: list[float] = []

    def harness() -> tuple[float, float, float]:
        timed = time_candidates([candidate], (), clock, Local(), attempts=1)
        warmups.append(timed.readings.warmup["ms"] / 1e3)
        p50 = timed.latencies(0)[0]
        low, high = p50.interval or (p50.value, p50.value)
        return p50.value, low, high

    def loop() -> tuple[float, float, float]:
        warmup = warmups[-1] if warmups else 0.5
        command = [sys.executable, "-c", BARE, str(graph), str(folder / "rows.npz")]
        done = subprocess.run(
            [*command, str(seconds), str(warmup)],
            env=agent_environment(job) | {"PATH": ""}, capture_output=True, check=True, text=True,
        )  # fmt: skip
        ns = np.array(json.loads(done.stdout), dtype=np.int64)
        series = Series(ns, np.arange(len(ns)) % 16)
        p50 = percentile(series, Loop(seconds * 1e3), 0.5, metric="latency_p50", target="bare")
        low, high = p50.interval or (p50.value, p50.value)
        return p50.value, low, high

    ways: dict[str, Callable[[], tuple[float, float, float]]] = {"harness": harness, "bare": loop}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in (*ways,) if repeat % 2 == 0 else reversed((*ways,)):
            found[name].append(ways[name]())
    middle = {name: statistics.median(each[0] for each in runs) for name, runs in found.items()}
    ranks = interval_ranks(repeats, 0.5)
    assert ranks is not None, "an interval needs six repeats"
    ordered = sorted(each[0] for each in found["harness"])
    low, high = ordered[ranks[0]], ordered[ranks[1]]
    pairs = zip(found["harness"], found["bare"], strict=True)
    ratios = sorted(own[0] / other[0] for own, other in pairs)
    overlap = sum(
        own[1] <= other[2] and other[1] <= own[2]
        for own, other in zip(found["harness"], found["bare"], strict=True)
    )
    click.echo(
        f"bare loop: harness p50 {middle['harness']:.4f} ms [{low:.4f}, {high:.4f}], bare "
        f"{middle['bare']:.4f} ms; harness over bare {statistics.median(ratios):.4f} "
        f"[{ratios[ranks[0]]:.4f}, {ratios[ranks[1]]:.4f}] over {repeats} pairs of processes; "
        f"the intervals of a single pair overlap in {overlap}"
    )
    return low <= middle["bare"] <= high or ratios[ranks[0]] <= 1 <= ratios[ranks[1]]


def nine(folder: Path) -> bool:
    """Profile nine models by the command line, each for ten seconds."""
    models = []
    for index in range(NINE):
        path = folder / f"model{index}.onnx"
        perceptron(path, 256 + 32 * index, 2 + index)
        models.append(str(path))
    command = [sys.executable, "-m", "edgecompress", "profile", *models, "--min-duration"]
    start = time.monotonic()
    done = subprocess.run(
        [*command, f"{SECONDS_EACH:g}s", "--store", str(folder / "store"), "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    took, asked = time.monotonic() - start, NINE * SECONDS_EACH
    found = [json.loads(line) for line in done.stdout.splitlines()]
    loops = [each["conditions"] for each in found if each["metric"] == "latency_p50"]
    timed, warmed = (sum(c[key] for c in loops) / 1e3 for key in ("duration_ms", "warmup_ms"))
    click.echo(
        f"nine models: {took:.1f} s for {asked:.0f} s of timing, {took / asked:.3f} × "
        f"(at most {FACTOR} ×); {timed:.1f} s in loops, {warmed:.1f} s of warm-up, "
        f"{took - timed - warmed:.1f} s for all else"
    )
    return took <= FACTOR * asked


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["null", "bare", "nine"]))
@click.option("--seconds", default=2.0, show_default=True, help="Of each loop.")
@click.option("--repeats", default=15, show_default=True, help="Pairs of processes, at least 6.")
def main(parts: tuple[str, ...], seconds: float, repeats: int) -> None:
    """Measure what measuring costs."""
    held = True
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        folder = Path(name)
        for part in parts or ("null", "bare", "nine"):
            place = folder / part
            place.mkdir()
            if part == "null":
                held &= null(place, seconds)
            elif part == "bare":
                held &= bare(place, seconds, repeats)
            else:
                held &= nine(place)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
