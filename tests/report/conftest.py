"""A run as a person would have it: 3 references, 9 candidates, 3 languages, 4 labels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from browsing import start_browser

from edgecompress.results import Limit, Row, RunResult, Verdict
from edgecompress.values import Measurement, Step

LANGUAGES = {"hau": 552, "pcm": 600, "swa": 604}
LABELS = {"DATE": 612, "LOC": 1204, "ORG": 803, "PER": 1540}
CONFUSED = [
    [520, 4, 8, 2, 78],
    [3, 1100, 40, 21, 40],
    [6, 33, 690, 19, 55],
    [0, 12, 9, 1480, 39],
    [44, 25, 31, 18, 30122],
]
FLAGS = (
    "fpu",
    "sse",
    "sse2",
    "ssse3",
    "fma",
    "sse4_1",
    "sse4_2",
    "avx",
    "f16c",
    "rdrand",
    "hypervisor",
    "bmi1",
    "avx2",
    "bmi2",
    "erms",
    "avx512f",
    "avx512dq",
    "avx512cd",
    "sha_ni",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "avx512_vbmi2",
    "gfni",
    "vaes",
    "avx512_vnni",
    "avx512_bitalg",
    "rdpid",
)


def spread(ms: float) -> list[list[float]]:
    """A distribution of two peaks with one reading far out."""
    bins = [[ms * 0.8 * 1.02**step, 40 - abs(step - 11) * 3] for step in range(24)]
    return [*([low, count] for low, count in bins if count > 0), [ms * 40, 1]]


def measure(
    name: str,
    size: float,
    f1: float,
    ms: float,
    *,
    seed: int,
    test: bool = True,
    peak: float = 240e6,
    slow: str | None = None,
) -> tuple[Measurement, ...]:
    """All measurements of a row; `f1` is validation's, test lies 6 points lower."""
    noise = random.Random(seed)
    out = [
        Measurement("size", size, "bytes"),
        Measurement("download_size", size * 0.71, "bytes"),
        Measurement("compression", 90_400_000 / size, "x"),
    ]
    teacher = 0.8435
    for split, shift in (("validation", 0.0), ("test", -0.0603)):
        if split == "test" and not test:
            continue
        value = f1 + shift
        at = {"target": "local", "split": split}
        out.append(Measurement("f1", value, "fraction", **at, samples=1756))
        out.append(Measurement("accuracy", value + 0.17, "fraction", **at, samples=1756))
        out.append(Measurement("ece", 0.021 + noise.random() / 50, "fraction", **at, samples=1756))
        if name != "teacher":
            drop = teacher - f1
            band = (drop - 0.0044, drop + 0.0046)
            out.append(Measurement("f1_drop", drop, "fraction", **at, samples=1756, interval=band))
            out.append(Measurement("agreement", 0.991 - drop, "fraction", **at, samples=1756))
        for language, count in LANGUAGES.items():
            off = {"hau": 0.05, "pcm": -0.02, "swa": 0.01}[language] + noise.uniform(-0.006, 0.006)
            part = {"slice": f"file:{language}", "samples": count}
            out.append(Measurement("f1", value + off, "fraction", **at, **part))
        for label, count in LABELS.items():
            off = {"PER": 0.08, "LOC": 0.02, "ORG": -0.06, "DATE": -0.09}[label]
            part = {"slice": f"label:{label}", "samples": count}
            off += noise.uniform(-0.012, 0.006)
            out.append(Measurement("f1", value + off, "fraction", **at, **part))
    here = {"target": "local", "samples": 1200, "conditions": {"threads": 1, "batch_size": 1}}
    timed = {**here, "invalid": slow}
    for metric, factor in (
        ("latency_p50", 1.0),
        ("latency_p90", 1.7),
        ("latency_p99", 2.6),
        ("end_to_end_p50", 1.06),
    ):
        middle = ms * factor
        band = (middle * 0.985, middle * 1.017)
        out.append(Measurement(metric, middle, "ms", **timed, interval=band))
    out[-4] = replace(out[-4], conditions={**here["conditions"], "distribution": spread(ms)})
    if name != "teacher":
        ratio = 11.9 / ms
        band = (ratio * 0.98, ratio * 1.02)
        out.append(Measurement("speedup", ratio, "x", **timed, interval=band))
        whole = {**timed, "conditions": {**timed["conditions"], "covers": "rows, model, answer"}}
        out.append(Measurement("end_to_end_speedup", ratio * 0.9, "x", **whole))
    out += [
        Measurement("load_time", 40 + size / 1e6, "ms", target="local", samples=5),
        Measurement("first_inference", ms * 3, "ms", target="local", samples=5),
        Measurement("peak_memory", peak, "bytes", target="local", samples=5),
        Measurement("memory_rise", peak - 61e6, "bytes", target="local", samples=5),
    ]
    return tuple(out)


def journey(chain: tuple[str, ...], size: float, f1: float, ms: float) -> tuple[dict, ...]:
    """What each stage changed, from the teacher to the finished model."""
    out = [{"stage": "teacher", "size": 91_200_000, "f1": 0.8435}]
    for index, stage in enumerate(chain, start=1):
        share = (index / len(chain)) ** 0.7
        entry = {
            "stage": stage,
            "size": int(90_400_000 + (size - 90_400_000) * share),
            "f1": 0.8435 + (f1 - 0.8435) * share - (0.016 if "prune" in stage else 0),
        }
        if index > 1:
            entry["latency_p50"] = 11.9 + (ms - 11.9) * share
        out.append(entry)
    return tuple(out)


FORKS = {
    "": ("", 0.0, 0.0, 0.0),
    "heads+ffn": ("prune.structured", 6.2e6, 0.0041, 0.9),
    "3 layers": ("prune.layers", 5.1e6, 0.0182, 1.6),
}
ENDS = {
    "dynamic": ("quantize.dynamic", 24.5e6, 0.0037, 4.85),
    "static": ("quantize.static", 24.4e6, 0.0022, 4.12),
    "inc_static": ("quantize.inc_static", 24.6e6, 0.0048, 4.31),
}


def candidate(fork: str, end: str, seed: int) -> Row:
    """One of the nine candidates."""
    pruning, less, lost, faster = FORKS[fork]
    quantizing, size, drop, ms = ENDS[end]
    size, f1, ms = size - less, 0.8435 - drop - lost, ms - faster
    first = ("vocabulary.trim", pruning, "distil") if pruning else ("vocabulary.trim", "distil")
    last = (quantizing,) if "inc" in quantizing else ("export", "fuse", quantizing)
    chain = (*first, *last)
    name = "+".join(part for part in (fork, end) if part)
    steps = tuple(Step(stage, {"seed": 7}, {"kept": 9}, 12.5) for stage in chain)
    passed = Verdict("f1", "pass", "f1 is within its limit")
    size_ok = Verdict("size", "pass", "size is within its limit")
    if size > 20e6:
        miss = size / 20e6 - 1
        reason = f"size: {size / 1e6:.2f} MB, allowed at most 20.00 MB"
        size_ok = Verdict("size", "fail", reason, miss)
    if f1 < 0.8335:
        reason = f"f1: {(0.8435 - f1) * 100:.2f} points, allowed a drop of at most 1.00 points"
        passed = Verdict("f1", "fail", reason, (0.8435 - f1) / 0.01 - 1)
    return Row(
        name=name,
        kind="candidate",
        chain=chain,
        steps=steps,
        measurements=measure(name, size, f1, ms, seed=seed, peak=120e6 + size * 2),
        verdicts=(passed, size_ok, Verdict("latency_p50@local", "pass", "within its limit")),
        pareto=end == "static",
        lost="; ".join(v.reason for v in (passed, size_ok) if v.state == "fail")
        or "size is 18.40 MB, the winner's 18.20 MB",
        stages=journey(chain, size, f1, ms),
    )


def make_result() -> RunResult:
    """Build the whole result."""
    throttled = "the CPU was throttled during 14 % of the readings; let it cool and run again"
    rows = [
        Row(
            "teacher",
            "reference",
            measurements=measure("teacher", 91.2e6, 0.8435, 24.7, seed=1, peak=655e6),
        ),
        Row(
            "onnx-fp32",
            "reference",
            ("export",),
            measurements=measure("onnx-fp32", 90.4e6, 0.8435, 11.9, seed=1, peak=312e6),
        ),
        Row(
            "onnx-fp32-tuned",
            "reference",
            ("export", "fuse"),
            measurements=measure("onnx-fp32-tuned", 90.4e6, 0.8435, 10.8, seed=1, peak=308e6),
        ),
    ]
    pairs = [(fork, end) for fork in FORKS for end in ENDS]
    made = {f"{fork}+{end}".lstrip("+"): candidate(fork, end, 9) for fork, end in pairs}
    winner = "heads+ffn+static"
    made[winner] = replace(made[winner], lost=None)
    made["heads+ffn+inc_static"] = replace(
        made["heads+ffn+inc_static"],
        measurements=measure("x", 18.4e6, 0.8346, 3.41, seed=4, slow=throttled, test=False),
        verdicts=(
            *made["heads+ffn+inc_static"].verdicts[:2],
            Verdict("latency_p50@local", "undecided", f"latency_p50@local is invalid: {throttled}"),
        ),
        lost=f"latency_p50@local is invalid: {throttled}",
        pareto=False,
    )
    broken = "3 layers+inc_static"
    error = (
        "chain 3 layers+inc_static, stage quantize.inc_static: "
        "the export lost the dynamic axis 'length'"
    )
    made[broken] = Row(
        broken, "candidate", made[broken].chain, made[broken].steps[:3], error=error, lost=error
    )
    return RunResult(
        name="masakhaner-minilm",
        task="token-classification",
        recipe={
            "name": "masakhaner-minilm",
            "task": "token-classification",
            "teacher": {"model": "checkpoints/minilm-masakhaner"},
            "data": {"format": "conll", "train": ["hau/train.txt"], "test": ["hau/test.txt"]},
            "seed": 7,
            "stages": [{"any": [[], [{"prune.structured": {"heads": 0.5, "ffn": 0.5}}]]}, "export"],
            "targets": ["local"],
            "budget": {"f1": {"max_drop": 0.01}, "size": {"max": 20_000_000}},
            "minimize": "size",
        },
        rows=(*rows, *made.values()),
        winner=winner,
        verdict=Verdict("budget", "pass", "every limit is kept"),
        minimize="size",
        budget=(
            Limit("f1", max_drop=0.01),
            Limit("size", max=20e6),
            Limit("latency_p50", target="local", max=5.0),
        ),
        environment={
            "cpu": {"model": "Intel(R) Xeon(R) Processor @ 2.60GHz", "cores": 2, "flags": FLAGS},
            "memory_bytes": 8_242_000_000,
            "os": "Debian GNU/Linux 12 (bookworm), Linux 6.1.0 x86_64",
            "python": "3.11.2",
            "libraries": {"onnxruntime": "1.31.1", "torch": "2.13.0", "transformers": "4.57.6"},
        },
        data={
            "format": "conll",
            "examples": {"train": 4521, "validation": 657, "test": 1756},
            "digests": {"train": "9f2c" * 16, "validation": "77ab" * 16, "test": "01de" * 16},
        },
        started="2026-11-28T09:05:00+00:00",
        seconds=725.0,
        answers={
            "split": "test",
            "counted": "words",
            "classes": ["DATE", "LOC", "ORG", "PER", "O"],
            "rows": {
                "teacher": CONFUSED,
                winner: [
                    [max(0, n - 3 * (i == j)) for j, n in enumerate(line)]
                    for i, line in enumerate(CONFUSED)
                ],
            },
        },
        command="edgecompress run models/masakhaner-minilm.yaml -o runs/masakhaner",
    )


@pytest.fixture(scope="session")
def result() -> RunResult:
    return make_result()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from start_browser(tmp_path_factory.mktemp("profile"))


BOARD = {
    "machine": "aarch64",
    "board": "Raspberry Pi 5 Model B Rev 1.0",
    "cpu": "Cortex-A76",
    "cores": 4,
    "flags": ["asimd", "asimddp", "asimdhp", "fp"],
    "isa": ["dotprod", "fp16"],
    "memory_bytes": 8_450_000_000,
    "system": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.6.31+rpt-rpi-2712",
    "libc": "glibc 2.36",
    "bits": 64,
    "python": "3.11.2",
    "libraries": {"onnxruntime": "1.31.1", "numpy": "2.4.0"},
    "governor": "performance",
    "meters": ["pmic"],
    "emulated": False,
}
LOST = (
    "pi5: pi@raspberrypi.local: the board said nothing for 120 s while timing, and it cannot be "
    "reached now; the same command goes on from there; the same command measures what is missing"
)


def on_board(row: Row, slower: float) -> tuple[Measurement, ...]:
    """What a board gave of a row: everything, hotter and slower, and its energy."""
    out = []
    timed = ("latency_p50", "latency_p90", "latency_p99", "end_to_end_p50")
    for one in row.measurements:
        if one.target != "local":
            continue
        factor = slower if one.metric in timed else 0.5 if one.metric == "peak_memory" else 1.0
        interval = one.interval and (one.interval[0] * factor, one.interval[1] * factor)
        changed = {"value": one.value * factor, "interval": interval, "target": "pi5"}
        out.append(replace(one, **changed, invalid=None))
    found = next(one.value for one in out if one.metric == "latency_p50")
    out += [
        Measurement("harness_overhead", 0.0112, "ms", "pi5", samples=1200),
        Measurement("temperature", 61.3, "°C", "pi5", samples=2),
        Measurement("energy", found * 4.1, "mJ", "pi5", samples=1200),
        *unlike("pi5", 0.0),
    ]
    return tuple(out)


def on_emulated(row: Row, target: str, difference: float) -> tuple[Measurement, ...]:
    """What an emulated processor gave of a row: answers to a sample, and instructions."""
    sample: dict[str, Any] = {"conditions": {"batch": 1, "sample": 200, "of": 1756}}
    out = []
    for one in row.measurements:
        kept = one.metric in ("f1", "f1_drop", "agreement") and one.target == "local"
        if kept and one.slice is None:
            lost = difference * (1 if one.metric == "f1_drop" else -1)
            changed = {"value": one.value + lost, "target": target, "samples": 412}
            interval = one.interval and (one.interval[0] + lost, one.interval[1] + lost)
            out.append(replace(one, **changed, interval=interval, **sample))
    out += unlike(target, difference)
    kinds = {None: 1.0, "kind:dot_product": 0.1, "kind:fma": 0.05, "kind:load_store": 0.31}
    out += [
        Measurement("instructions", 270_613_402 * share, "count", target, slice=name, samples=8)
        for name, share in kinds.items()
    ]
    return tuple(out)


def unlike(target: str, share: float) -> list[Measurement]:
    """How many answers differ from the host's on both splits, and what that costs."""
    out = []
    for split in ("validation", "test"):
        at = {"target": target, "split": split, "samples": 8230}
        out.append(Measurement("host_difference", share, "fraction", **at))
        band = (share * 0.6, share * 1.5)
        out.append(Measurement("f1_host_drop", share, "fraction", **at, interval=band))
    return out


def make_several() -> RunResult:
    """The same run on four targets: this machine, a board, and two emulated processors."""
    result = make_result()
    rows = []
    for row in result.rows:
        if row.error or row.name == "teacher":
            rows.append(row)
            continue
        found = [*row.measurements, Measurement("harness_overhead", 0.0031, "ms", "local")]
        if row.name == "static":  # the board fell silent here
            found += [
                Measurement(
                    observer, float("nan"), "count", "pi5", split, samples=0, invalid=LOST
                )
                for observer, split in (
                    ("profile", None), ("evaluate", "validation"), ("evaluate", "test"),
                )
            ]  # fmt: skip
        else:
            found += on_board(row, 4.6)
        lossy = 0.0 if row.kind == "reference" else 0.0391
        found += on_emulated(row, "x86-avx2", lossy)
        found += on_emulated(row, "emulated://cortex-a72", 0.0)
        if row.name == result.winner:
            found += variants_of(3.22, "local") + variants_of(14.8, "pi5")
        rows.append(replace(row, measurements=tuple(found)))
    recipe = {**result.recipe, "targets": ["local", "pi5", "x86-avx2", "emulated://cortex-a72"]}
    cpu = result.environment["cpu"]["model"]
    emulated = {"emulated": True, "meters": [], "governor": None, "board": None}
    described = {
        "local": {**BOARD, "board": None, "cpu": cpu, "machine": "x86_64", "isa": ["avx2", "vnni"],
                  "flags": list(FLAGS), "meters": [], "governor": None, "cores": 2},
        "pi5": BOARD,
        "x86-avx2": {**BOARD, **emulated, "cpu": "Haswell (AVX2, no VNNI), emulated",
                     "machine": "x86_64", "isa": ["avx2"]},
        "emulated://cortex-a72": {"error": "emulated://cortex-a72 cannot be prepared: apt-get "
                                  "update failed: no network"},
    }  # fmt: skip
    return replace(
        result,
        rows=tuple(rows),
        recipe=recipe,
        environment={**result.environment, "targets": described},
    )


def variants_of(ms: float, target: str) -> list[Measurement]:
    """Other settings and the operators of a model that takes `ms`."""
    out = []
    for threads, faster in ((2, 1.8), (4, 2.9)):
        time, at = ms / faster, {"target": target, "slice": f"threads:{threads}"}
        out.append(
            Measurement("latency_p50", time, "ms", **at, interval=(time * 0.98, time * 1.02))
        )
        out.append(Measurement("peak_memory", 158e6, "bytes", **at))
    batch: dict[str, Any] = {"target": target, "slice": "batch:8"}
    out.append(Measurement("latency_p50", ms * 6.1, "ms", **batch, invalid="throttled: too hot"))
    out.append(Measurement("throughput", 8e3 / ms / 6.1, "1/s", **batch))
    out.append(Measurement("peak_memory", 120e6, "bytes", target=target, slice="arena:off"))
    operators = {"MatMulIntegerToFloat": 0.61, "Attention": 0.2, "SkipLayerNormalization": 0.08}
    operators |= {f"Other{index}": 0.01 for index in range(11)}
    for name, share in operators.items():
        part: dict[str, Any] = {"target": target, "slice": f"operator:{name}"}
        part["conditions"] = {"share": share, "calls": 6, "nodes": 6, "dtypes": ["float"]}
        part["conditions"]["layers"] = [{"name": f"/{name}/a", "ms": ms * share, "share": share}]
        if name == "Attention":
            part["conditions"]["float"] = {"/Attention/a": "the quantizer left this as it was"}
        out.append(Measurement("operator_time", ms * share, "ms", **part))
    return out


@pytest.fixture(scope="session")
def several() -> RunResult:
    return make_several()
