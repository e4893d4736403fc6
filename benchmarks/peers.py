"""Four ONNX models through ours and two other quantizers, side by side: size, speed, error, cost.

Run ``python benchmarks/peers.py --model DIR --data DIR --images ZIP --optimum PYTHON --olive
PYTHON``. A small CNN, a ViT, the BERT given and a GPT-2 are quantized by ``edgecompress quantize``,
by Optimum's ORTQuantizer (of this environment where it has that) and by Microsoft Olive, each in
fresh processes that take turns. All results are then timed in one loop, inference by inference, on
the same inputs, with ONNX Runtime's default session on one thread. ``--only`` takes one model,
``--keep`` a folder that keeps the fp32 models for the next time.
"""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
from peer_models import MAKERS, Feed, Given, Subject
from peer_tools import Cost, Tool, Work, tools, watched

from edgecompress.models.session import open_session
from edgecompress.report.environment import CPU_FLAGS
from edgecompress.surgery.onnx_export import optimum_is_installed
from edgecompress.targets.agent.kernel import cpuinfo
from edgecompress.targets.base import Clock
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.values import Candidate, OnnxModel, find

MB = 1e6
LIBRARIES = ("edgecompress", "onnxruntime", "onnx", "transformers", "torch", "numpy")


@dataclass
class Row:
    """A line of the table: what a tool made, or an exporter, and what was found out about it."""

    tool: Tool | None
    folder: Path
    costs: list[Cost] = field(default_factory=list)
    model: Path | None = None
    error: str = ""
    metric: float | None = None
    distance: float = 0.0
    latency: str = ""
    speedup: str = ""
    exported: str = ""

    @property
    def title(self) -> str:
        """Tool and scheme."""
        return f"{self.tool.name} | {self.tool.scheme}" if self.tool else f"{self.exported} | fp32"

    @property
    def size(self) -> int:
        """Bytes of the ONNX file and its external data."""
        assert self.model is not None
        return sum(file.stat().st_size for file in self.model.parent.glob(f"{self.model.name}*"))


def write_samples(feeds: Sequence[Feed], folder: Path) -> None:
    """Write one .npz file for each sample."""
    folder.mkdir(parents=True)
    for index, feed in enumerate(feeds):
        np.savez(folder / f"{index:04d}.npz", **feed)  # type: ignore[arg-type]


def quantize(rows: Sequence[Row], subject: Subject, kind: str, place: Path, repeats: int) -> None:
    """Run every tool `repeats` times; who goes first changes, and every second round goes back."""
    write_samples(subject.calibration, place / "samples")
    for repeat in range(repeats):
        first = repeat * len(rows) // repeats
        order = [*rows[first:], *rows[:first]][:: -1 if repeat % 2 else 1]
        for row in order:
            assert row.tool is not None
            shutil.rmtree(row.folder, ignore_errors=True)
            row.folder.mkdir(parents=True)
            work = Work(subject.folder / "model.onnx", place / "samples", row.folder / "out", kind)
            work.out.mkdir()
            cost = watched(row.tool.command(work), row.folder)
            row.costs.append(cost)
            click.echo(f"{row.title}: {cost.seconds:.1f} s {cost.error}", err=True)
    for row in rows:
        found = [
            file
            for file in sorted((row.folder / "out").rglob("*.onnx"))
            if not {"store", "cache"} & set(file.relative_to(row.folder).parts)
        ]
        row.error = next((cost.error for cost in row.costs if cost.error), "")
        row.model = found[0] if found and not row.error else None
        if row.model is None:
            row.error = row.error or "no model was written"


def outputs(model: Path, feeds: Sequence[Feed]) -> list[np.ndarray]:
    """Run every feed and give the first outputs."""
    session = open_session(OnnxModel(model))
    return [session.run(None, feed)[0] for feed in feeds]


def judge(rows: Sequence[Row], subject: Subject) -> None:
    """Give every row its metric and its distance from fp32; the first row is fp32.

    The distance is the root of the mean squared difference over the standard deviation of the fp32
    outputs.
    """
    exact = outputs(subject.folder / "model.onnx", subject.judged)
    flat = np.concatenate([each.ravel() for each in exact])
    for row in rows:
        if row.model is None:
            continue
        try:
            found = outputs(row.model, subject.judged)
        except RuntimeError as error:
            row.error, row.model = str(error).splitlines()[0][:160], None
            continue
        pairs = zip(found, exact, strict=True)
        squares = sum(float(np.square(one - other).sum(dtype=np.float64)) for one, other in pairs)
        row.distance = float(np.sqrt(squares / flat.size) / flat.std())
        if subject.judge is not None:
            row.metric = subject.judge(found)


def time_rows(rows: Sequence[Row], subject: Subject, place: Path, seconds: float) -> str:
    """Time all models in one interleaved loop; give its conditions in a line."""
    items = {
        f"{k}/{name}": value for k, feed in enumerate(subject.timed) for name, value in feed.items()
    }
    np.savez(place / "timed.npz", **items)  # type: ignore[arg-type]
    kept = [row for row in rows if row.model is not None]
    candidates = [Candidate(OnnxModel(row.model), None, None, ()) for row in kept if row.model]
    clock = Clock(threads=1, min_duration_ms=seconds * 1e3, min_count=5 * len(subject.timed))
    inputs = InputSettings(file=place / "timed.npz")
    timed = time_candidates(candidates, (), clock, Local(), inputs=inputs)
    for index, row in enumerate(kept):
        p50 = find(timed.latencies(index), "latency_p50")
        ratio = timed.speedup(0, index, "fp32")
        assert p50 is not None
        row.latency = f"{p50.value:.2f}"
        if p50.interval:
            row.latency += " ({:.2f}–{:.2f})".format(*p50.interval)
        if ratio.interval and row.tool is not None:
            row.speedup = f"{ratio.value:.2f} ({ratio.interval[0]:.2f}–{ratio.interval[1]:.2f})"
        if ratio.invalid or p50.invalid:
            row.latency += " invalid"
            click.echo(f"{row.title}: {ratio.invalid or p50.invalid}", err=True)
    took = timed.conditions["duration_ms"] / 1e3
    return f"{len(subject.timed)} inputs, {took:.0f} s of interleaved timing"


def table(rows: Sequence[Row], subject: Subject) -> str:
    """Draw the Markdown table."""
    heads = ["by", "scheme", "MB", "× smaller", "ms, median", "× fp32's speed"]
    heads += [subject.metric] * bool(subject.metric)
    heads += ["error", "quantizer, s (of processor)", "quantizer, peak MB"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "--:|" * (len(heads) - 2)]
    for row in rows:
        if row.model is None:
            lines.append(f"| {row.title} | fails: {row.error.replace('|', '/')} |")
            continue
        size = row.size
        cells = [row.title, f"{size / MB:.2f}", f"{rows[0].size / size:.2f}", row.latency]
        cells += [row.speedup] + ([f"{row.metric:.2f}"] if row.metric is not None else [])
        if row.tool is None:
            cells += ["", "", ""]
        else:
            took = statistics.median(cost.seconds for cost in row.costs)
            used = statistics.median(cost.cpu_seconds for cost in row.costs)
            peak = statistics.median(cost.peak_bytes for cost in row.costs)
            cells += [f"{row.distance:.4f}", f"{took:.1f} ({used:.1f})", f"{peak / MB:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ground(optimum: Path | None, olive: Path | None) -> str:
    """Say which processor and which versions."""
    info = cpuinfo()
    flags = [flag for flag in CPU_FLAGS if flag in info.get("flags", "").split()]
    names = [f"{name} {version(name)}" for name in LIBRARIES]
    for python, name in ((optimum, "optimum-onnx"), (olive, "olive-ai")):
        if python is not None:
            ask = "from importlib.metadata import version as v; print(v({!r}), v('onnxruntime'))"
            command = [str(python), "-c", ask.format(name)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            names.append("{} {} (with onnxruntime {})".format(name, *done.stdout.split()))
    cpu = f"{info.get('model name', platform.machine())}: {' '.join(flags)}"
    return f"{cpu}\nPython {platform.python_version()}, {', '.join(names)}"


@click.command()
@click.option("--model", help="Checkpoint of the BERT.")
@click.option("--data", help="Root of its data files.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    help="Zip of train/CLASS/IMAGE, 32 × 32, to train the CNN on; else random weights.",
)
@click.option(
    "--optimum",
    type=click.Path(path_type=Path, exists=True),
    help="Python of an environment that has Optimum, where this one has not.",
)
@click.option(
    "--olive",
    type=click.Path(path_type=Path, exists=True),
    help="Python of an environment that has olive-ai; Olive is left out without it.",
)
@click.option("--only", multiple=True, type=click.Choice(list(MAKERS)), help="Of the four models.")
@click.option("--repeats", default=3, show_default=True, help="Processes of each quantizer.")
@click.option("--seconds", default=20.0, show_default=True, help="At least, of each timing loop.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder that keeps the fp32 models.")
def main(
    model: str | None,
    data: str | None,
    images: Path | None,
    optimum: Path | None,
    olive: Path | None,
    only: tuple[str, ...],
    repeats: int,
    seconds: float,
    keep: Path | None,
) -> None:
    """Quantize with every tool and print a table for each model."""
    if optimum is None and optimum_is_installed():
        optimum = Path(sys.executable)
    # Not resolved: a link is the environment.
    optimum, olive = (python.absolute() if python else None for python in (optimum, olive))
    click.echo(ground(optimum, olive))
    for name, python in (("optimum", optimum), ("olive", olive)):
        if python is None:
            click.echo(f"{name.title()} is left out: no --{name} was given")
    with tempfile.TemporaryDirectory(prefix="edgecompress-peers-") as name:
        for kind in only or MAKERS:
            folder = (keep.absolute() if keep else Path(name) / "models") / kind
            folder.mkdir(parents=True, exist_ok=True)
            subject = MAKERS[kind](folder, Given(model, data, images))
            place = Path(name) / kind
            plain = Row(None, folder, model=folder / "model.onnx", exported=subject.exported)
            made = [Row(t, place / str(k)) for k, t in enumerate(tools(optimum, olive))]
            quantize(made, subject, kind, place, repeats)
            rows = [plain, *made]
            judge(rows, subject)
            loop = time_rows(rows, subject, place, seconds)
            click.echo(f"\n### {subject.title}\n\n{table(rows, subject)}\n")
            click.echo(
                f"{len(subject.calibration)} calibration samples; error and accuracy on "
                f"{len(subject.judged)} other inputs; {loop}; {repeats} processes of each quantizer"
            )
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
