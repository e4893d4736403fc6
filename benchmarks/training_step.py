"""A student's training: transformers' Trainer with its defaults, beside `finetune`'s loop.

Run ``python benchmarks/training_step.py --model DIR --data DIR`` (MasakhaNER's folders below the
data's). The student is the checkpoint's layers 0, 2 and 5 with half of their neurons. The Trainer
computes in fp32 with the dropout that the checkpoint's configuration asks for (or `--dropout`) and
pads random batches to their longest row; the loop is used as the stage uses it. Both train the same
student on the same sentences for the same number of epochs, with the same rows a step, learning
rate and number of threads.

They take turns, a few steps each, so that another load on the machine slows both alike; times are
also given as processor time, which it hardly touches. What the loop sets for the whole process
(that freed memory stays at hand) helps the Trainer beside it, too. Interval: 95 %,
distribution-free, of the median.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from bare import bare_context

from edgecompress.data.conll import ConllData
from edgecompress.intervals import interval_ranks
from edgecompress.stages.finetune import Finetune
from edgecompress.values import Candidate, Example, TorchModel

LANGUAGES = ("hau", "pcm", "swa")
LAYERS = (0, 2, 5)
OURS, TRAINER = "finetune", "Trainer"


class Turns:
    """Two threads, one of which works at a time, so many steps each."""

    def __init__(self, names: Sequence[str], steps: int) -> None:
        self.names, self.steps = list(names), steps
        self.turn = self.names[0]
        self.changed = threading.Condition()

    def wait(self, name: str) -> None:
        """Wait until it is the turn of `name`."""
        with self.changed:
            self.changed.wait_for(lambda: self.turn == name)

    def after(self, name: str, done: int) -> None:
        """Hand over after every so many steps, and wait for the next turn."""
        if done % self.steps == 0:
            self._hand_over(name)
            self.wait(name)

    def leave(self, name: str) -> None:
        """Take no more turns."""
        with self.changed:
            self.names.remove(name)
        self._hand_over(name)

    def _hand_over(self, name: str) -> None:
        with self.changed:
            others = [other for other in self.names if other != name]
            self.turn = others[0] if others else name
            self.changed.notify_all()


@dataclass
class Watch:
    """Seconds of each step, on the wall and on the processor, and what the step had to do."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a step."""
        self.started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End it."""
        self.wall.append(time.perf_counter() - self.started[0])
        self.processor.append(time.process_time() - self.started[1])


def make_student(model: str, folder: Path, dropout: float | None) -> Candidate:
    """Reduce a checkpoint to three layers with half of their neurons, those of least norm gone."""
    import torch

    from edgecompress.surgery.families import blocks
    from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
    from edgecompress.surgery.layers import keep_layers
    from edgecompress.surgery.model import load_module, save_module
    from edgecompress.training.teacher import import_teacher

    whole = import_teacher(model, "token-classification", None, folder / "whole")
    module = load_module(whole.model)
    keep_layers(module, LAYERS)
    found = list(blocks(module))
    kept = [torch.argsort(-block.neuron_squares())[: block.neurons // 2] for block in found]
    keep_heads_and_neurons(
        module, [range(block.heads) for block in found], [sorted(k.tolist()) for k in kept]
    )
    if dropout is not None:
        module.config.hidden_dropout_prob = dropout
        module.config.attention_probs_dropout_prob = dropout
    return whole.with_model(save_module(module, folder / "student"))


def read(data: Path, part: str, limit: int | None) -> tuple[Example, ...]:
    """Read the three languages' sentences; with a limit, the same number of each."""
    found: list[Example] = []
    for language in LANGUAGES:
        file = Path(language) / f"{part}.txt"
        found += ConllData(root=data, train=(file,)).read("train")[:limit]
    return tuple(found)


def with_trainer(
    student: Candidate, stage: Finetune, train: Any, folder: Path, watch: Watch, turns: Turns
) -> Any:
    """Train by transformers' Trainer and give the module."""
    import torch
    from transformers import (
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from edgecompress.surgery.model import load_module

    class Timing(TrainerCallback):  # type: ignore[misc]
        """Times a step with the batch that it takes from the loader, and takes turns."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.start()

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            watch.stop()
            turns.after(TRAINER, state.global_step)
            watch.start()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            watch.start()

    module = load_module(student.model, "sdpa")  # what from_pretrained gives by itself
    examples = [
        {"input_ids": row.feed["input_ids"].tolist(), "labels": row.target["labels"].tolist()}
        for row in train
    ]
    collate = DataCollatorForTokenClassification(
        AutoTokenizer.from_pretrained(student.preprocessor)
    )

    def collated(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = collate(batch)
        watch.rows.append(len(batch))
        watch.tokens.append(int(found["attention_mask"].sum()))
        watch.padded.append(found["input_ids"].numel())
        return found

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=7,
    )
    trainer = Trainer(
        model=module,
        args=arguments,
        data_collator=collated,
        train_dataset=examples,
        callbacks=[Timing()],
    )
    turns.wait(TRAINER)
    trainer.train()
    return module.eval()


def with_finetune(
    student: Candidate,
    stage: Finetune,
    rows: Any,
    train: Sequence[Example],
    folder: Path,
    watch: Watch,
    turns: Turns,
) -> Any:
    """Train by our stage and give the module."""
    from edgecompress.surgery.model import load_module
    from edgecompress.training.schedule import batches

    schedule = stage.training_schedule()
    for epoch in range(stage.epochs):
        for batch in batches(rows.padded, schedule, 7, epoch):
            watch.rows.append(len(batch))
            watch.tokens.append(int(rows.lengths[batch].sum()))
            watch.padded.append(len(batch) * rows.length(batch))

    def say(done: float) -> None:
        watch.stop()
        turns.after(OURS, int(done))
        watch.start()

    context = bare_context(folder / "made", train, seed=7, say=say)
    turns.wait(OURS)
    watch.start()
    made = stage.apply(student, context)
    if not isinstance(made.model, TorchModel):
        raise TypeError("finetune gives a PyTorch model")
    return load_module(made.model)


def median(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the median with the interval of its ranks."""
    ordered = sorted(values)
    ranks = interval_ranks(len(ordered), 0.5)
    middle = float(np.median(ordered))
    return (middle, ordered[ranks[0]], ordered[ranks[1]]) if ranks else (middle, middle, middle)


def report(name: str, watch: Watch, score: float) -> tuple[float, float]:
    """Print one way's figures; give its rows a second on the wall and on the processor."""
    parts = [name]
    speeds = []
    for clock, seconds in (("wall", watch.wall), ("processor", watch.processor)):
        middle, low, high = (1e3 * value for value in median(seconds))
        rows = sum(watch.rows[: len(seconds)]) / sum(seconds)
        tokens = sum(watch.tokens[: len(seconds)]) / sum(seconds)
        speeds.append(rows)
        parts.append(
            f"  {clock}: step {middle:.0f} ms [{low:.0f}, {high:.0f}], mean "
            f"{1e3 * float(np.mean(seconds)):.0f} ms; {rows:.1f} rows/s, {tokens:.0f} tokens/s"
        )
    padding = 1 - sum(watch.tokens) / sum(watch.padded)
    parts.append(f"  {len(watch.wall)} steps, {padding:.0%} padding; dev F1 {100 * score:.2f}")
    click.echo("\n".join(parts))
    return speeds[0], speeds[1]


@click.command()
@click.option("--model", required=True, help="Directory of the fine-tuned checkpoint.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="MasakhaNER's root.")
@click.option("--epochs", default=3, show_default=True)
@click.option("--learning-rate", default=1e-4, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--dropout", type=float, help="Of the Trainer's student; as configured if left out.")
@click.option("--sentences", type=int, help="Of each language and part; all when left out.")
@click.option("--turn", default=5, show_default=True, help="Steps of a turn.")
def main(
    model: str,
    data: Path,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    threads: int,
    dropout: float | None,
    sentences: int | None,
    turn: int,
) -> None:
    """Train a student twice, side by side."""
    import torch

    from edgecompress.training.encoding import labelled_rows, make_rows

    torch.set_num_threads(threads)
    stage = Finetune(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        folder = Path(name)
        student = make_student(model, folder, dropout)
        from edgecompress.surgery.model import load_module

        module = load_module(student.model)
        train = read(data, "train", sentences)
        rows = labelled_rows(student, train, module)
        dev = make_rows(student, read(data, "dev", sentences), module)
        size = sum(parameter.numel() for parameter in module.parameters())
        click.echo(
            f"{len(rows.lengths)} sentences of {rows.lengths.mean():.1f} tokens, {epochs} epochs, "
            f"{batch_size} rows a step, {threads} thread(s), a student of {size / 1e6:.1f}M "
            f"parameters with dropout {module.config.hidden_dropout_prob:g}; dev F1 before "
            f"{100 * dev.primary_score(module):.2f}"
        )
        turns = Turns((TRAINER, OURS), turn)
        watches = {TRAINER: Watch(), OURS: Watch()}
        made: dict[str, Any] = {}

        def work(way: str, train_it: Callable[[], Any]) -> None:
            torch.set_num_threads(threads)
            try:
                made[way] = train_it()
            finally:
                turns.leave(way)

        threads_of = [
            threading.Thread(target=work, args=(TRAINER, lambda: with_trainer(
                student, stage, rows, folder / "trainer", watches[TRAINER], turns))),
            threading.Thread(target=work, args=(OURS, lambda: with_finetune(
                student, stage, rows, train, folder / "ours", watches[OURS], turns))),
        ]  # fmt: skip
        for thread in threads_of:
            thread.start()
        for thread in threads_of:
            thread.join()
        theirs = report(TRAINER, watches[TRAINER], dev.primary_score(made[TRAINER]))
        ours = report(OURS, watches[OURS], dev.primary_score(made[OURS]))
        click.echo(
            f"{OURS} over {TRAINER}, rows/s: {ours[0] / theirs[0]:.2f} on the wall, "
            f"{ours[1] / theirs[1]:.2f} on the processor"
        )


if __name__ == "__main__":
    main()
