"""Presets of int8 quantization side by side: speed here, instructions and answers on other CPUs.

Run ``python benchmarks/presets.py --model DIR --data DIR``. Models are the recipe's, quantized by
`quantize.dynamic` and `quantize.static` with every preset, and with other integer types for
comparison. Times are of this machine, interleaved inference by inference; instructions and answers
are those of the emulated processors. Presets of equal types make equal files and share a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from bare import bare_context

from edgecompress.data.sample import stratified_sample
from edgecompress.engine.recipe import load_recipe
from edgecompress.quantization.plan.presets import PRESETS
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.targets import Job, JobModel, open_target
from edgecompress.targets.base import Feeds
from edgecompress.targets.inputs import encoded_feeds, spread
from edgecompress.targets.measure import time_interleaved
from edgecompress.targets.size import model_files
from edgecompress.tasks import Rows
from edgecompress.texts import text_of, words_of
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example, file_digest, find

TARGETS = ("emulated://x86-avx2", "emulated://cortex-a72", "emulated://cortex-a76")
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "dynamic": {"uint8 weights": {"weight": "uint8", "symmetric": False}},
    "static": {
        "uint8 weights": {"weight": "uint8", "symmetric": False},
        "int8 activations": {"activation": "int8"},
    },
}
"""What the presets were chosen against."""


@dataclass
class Entry:
    """A model of the table with what was found out about it."""

    stage: str
    names: list[str]
    candidate: Candidate
    nodes: tuple[str, ...] = ()
    time: tuple[float, float, float] | None = None
    error: float = 0.0
    changed: int = 0
    instructions: dict[str, float] = field(default_factory=dict)
    differ: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Stage and presets."""
        return f"{self.stage}: {', '.join(self.names)}" if self.names else self.stage

    @property
    def presets(self) -> frozenset[str]:
        """Those of its names that are presets."""
        return frozenset(self.names) & frozenset(PRESETS)


def say(what: str) -> None:
    """Tell the person who waits, beside the table."""
    click.echo(what, err=True)


def quantized(
    plain: Candidate, train: Sequence[Example], validation: Sequence[Example], folder: Path
) -> list[Entry]:
    """Quantize in every way; equal files become one entry."""
    found: dict[str, Entry] = {}
    for name, others in OTHERS.items():
        fields = {preset: {"preset": preset} for preset in PRESETS} | others
        for title, settings in fields.items():
            stage = {"dynamic": Dynamic, "static": Static}[name](**settings)
            place = folder / f"{name}-{title.replace(' ', '-')}"
            made = stage.apply(plain, bare_context(place, train, validation, seed=7))
            digest = file_digest(model_files(made.model)[0])
            decisions = made.steps[-1].decisions
            nodes = (*decisions["int8_linears"], *decisions["int8_embeddings"])
            entry = found.setdefault(digest, Entry(name, [], made, nodes))
            entry.names.append(title)
            say(f"quantize.{name} {title}: {len(nodes)} layers in int8")
    return list(found.values())


def time_entries(entries: Sequence[Entry], examples: Sequence[Example], seconds: float) -> None:
    """Time all entries interleaved; each gets its time over that of dynamic ``portable``."""
    reference = next(e for e in entries if e.stage == "dynamic" and "portable" in e.names)
    candidates = [reference.candidate, *(entry.candidate for entry in entries)]
    measured = time_interleaved(candidates, examples, min_duration_ms=seconds * 1e3, min_count=200)
    for entry, found in zip(entries, measured[1:], strict=True):
        speedup = find(found, "speedup")
        if speedup is None or speedup.interval is None or speedup.invalid:
            say(f"{entry.title}: not timed ({speedup.invalid if speedup else 'no reading'})")
            continue
        low, high = speedup.interval
        entry.time = (1 / speedup.value, 1 / high, 1 / low)


def cost_of_portable(
    entries: Sequence[Entry], examples: Sequence[Example], stage: str, seconds: float
) -> str:
    """Time the portable model of a stage against its fastest preset, the two of them alone."""
    presets = [e for e in entries if e.stage == stage and e.presets]
    portable = next(e for e in presets if "portable" in e.names)
    timed = [entry for entry in presets if entry.time is not None]
    best = min(timed, key=lambda entry: entry.time or (np.inf,), default=portable)
    if best is portable:
        best = next((entry for entry in presets if entry is not portable), portable)
    pair = [portable.candidate, best.candidate]
    found = time_interleaved(pair, examples, min_duration_ms=seconds * 1e3, min_count=200)
    speedup = find(found[1], "speedup")
    if speedup is None or speedup.interval is None:
        return f"{stage}: portable could not be timed"
    low, high = speedup.interval
    return (
        f"{stage}: portable takes {speedup.value:.3f} ({low:.3f} to {high:.3f}) of the time of "
        f"{', '.join(best.names)}" + (f"; invalid: {speedup.invalid}" if speedup.invalid else "")
    )


def answers(target: str, entries: Sequence[Entry], feeds: Feeds) -> list[list[np.ndarray]]:
    """Logits of every entry, one array per row."""
    models = tuple(JobModel(entry.candidate.model) for entry in entries)
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        outputs = open_target(target).run(Job("answers", models, (feeds,)), Path(folder)).outputs
    return [list(output[0]) for output in outputs]


def labels(logits: Sequence[np.ndarray], rows: Rows) -> list[str]:
    """All decoded labels, in order."""
    found = rows.task.decode([row[0] for row in logits], rows)
    return [str(label) for each in found.labels for label in each]


def compare_answers(
    entries: Sequence[Entry], examples: Sequence[Example], targets: Iterable[str]
) -> int:
    """Count the labels that differ from fp32 here, and between this host and every target.

    Only presets and fp32 are asked elsewhere: emulation is slow.
    """
    feeds, encoded, _ = encoded_feeds(entries[0].candidate, examples)
    here = answers("local", entries, feeds)
    given = [labels(each, encoded) for each in here]
    exact = np.concatenate([row.ravel() for row in here[0]])
    for entry, logits, mine in zip(entries, here, given, strict=True):
        flat = np.concatenate([row.ravel() for row in logits])
        entry.error = float(np.abs(flat - exact).mean() / exact.std())
        entry.changed = differing(mine, given[0])
    asked = [entry for entry in entries if not entry.names or entry.presets]
    for target in targets:
        say(f"answers of {target}")
        for entry, logits in zip(asked, answers(target, asked, feeds), strict=True):
            there = labels(logits, encoded)
            entry.differ[target] = differing(there, given[entries.index(entry)])
    return len(given[0])


def differing(first: Sequence[str], second: Sequence[str]) -> int:
    """Count positions at which two lists of labels differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def count_instructions(
    entries: Sequence[Entry], examples: Sequence[Example], targets: Iterable[str]
) -> None:
    """Count the instructions of an inference on every target."""
    feeds, _, _ = encoded_feeds(entries[0].candidate, examples)
    models = tuple(JobModel(entry.candidate.model) for entry in entries)
    for target in targets:
        say(f"instructions on {target}")
        with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
            job = Job("instructions", models, (feeds,))
            found = open_target(target).run(job, Path(folder)).instructions
        for entry, counts in zip(entries, found, strict=True):
            entry.instructions[target] = counts["all"] / counts["inferences"]


def table(entries: Sequence[Entry], targets: Sequence[str]) -> str:
    """Draw the Markdown table."""
    short = [target.rpartition("/")[2] for target in targets]
    heads = ["types", "time here", *(f"M instructions {name}" for name in short)]
    heads += [*(f"labels differ {name}" for name in short), "differ from fp32", "error", "MB"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for entry in entries:
        size = sum(file.stat().st_size for file in model_files(entry.candidate.model))
        time = "not measured"
        if entry.time is not None:
            time = f"{entry.time[0]:.2f} ({entry.time[1]:.2f} to {entry.time[2]:.2f})"
        cells = [entry.title, time]
        cells += [f"{entry.instructions[t] / 1e6:.1f}" for t in targets]
        cells += [str(entry.differ.get(t, "")) for t in targets]
        cells += [str(entry.changed), f"{entry.error:.4f}", f"{size / 1e6:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, exists=True),
    default=Path("models/masakhaner-minilm.yaml"),
    show_default=True,
    help="Where task and data files are taken from.",
)
@click.option("--model", required=True, help="Directory or hub id of the model.")
@click.option("--data", help="Root of the data files.")
@click.option("--sentences", default=60, show_default=True, help="To compare answers on.")
@click.option("--counted", default=2, show_default=True, help="To count instructions on.")
@click.option("--calibrate", default=64, show_default=True, help="For static ranges.")
@click.option("--seconds", default=20.0, show_default=True, help="Of each timing loop.")
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
def main(
    recipe: Path,
    model: str,
    data: str | None,
    sentences: int,
    counted: int,
    calibrate: int,
    seconds: float,
    targets: tuple[str, ...],
) -> None:
    """Measure every preset and print the table."""
    settings = [f"teacher.model={model}"] + ([f"data.root={data}"] if data else [])
    found = load_recipe(recipe, settings)
    if found.data is None:
        raise click.UsageError("the recipe names no data")
    train, validation = found.data.read("train"), found.data.read("validation")
    few = train[:: max(1, len(train) // calibrate)][:calibrate]
    with tempfile.TemporaryDirectory(prefix="edgecompress-presets-") as name:
        folder = Path(name)
        teacher = import_teacher(model, str(found.fields.task), None, folder / "teacher")
        plain = Export().apply(teacher, bare_context(folder / "fp32", few, validation, seed=7))
        entries = [Entry("fp32", [], plain), *quantized(plain, few, validation, folder)]
        same = {entry.nodes for entry in entries if entry.presets}
        lengths = [len(text_of(each)) + sum(map(len, words_of(each))) for each in validation]
        middling = [validation[index] for index in spread(lengths, counted)]
        time_entries(entries, validation, seconds)
        costs = [cost_of_portable(entries, validation, stage, seconds) for stage in OTHERS]
        count_instructions(entries, middling, targets)
        sample = [validation[k] for k in stratified_sample(validation, sentences, seed=7)]
        total = compare_answers(entries, sample, targets)
        click.echo(table(entries, targets))
        click.echo(f"\n{len(sample)} sentences, {total} labels; time here: over dynamic portable")
        click.echo(f"all presets quantize the same nodes: {'yes' if len(same) == 1 else 'NO'}")
        click.echo("\n".join(costs))


if __name__ == "__main__":
    main()
