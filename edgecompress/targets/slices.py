"""What a model loses against the teacher on parts of the data: on each data file, on each label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecompress.all_metrics import metric
from edgecompress.tasks import Answers, Task
from edgecompress.tasks.answers import Score
from edgecompress.tasks.compare import RESAMPLES, file_drops, label_drops
from edgecompress.values import Example, Json, Measurement


def slice_losses(
    kind: Task,
    teacher: Answers,
    found: Answers,
    examples: Sequence[Example],
    labels: Sequence[str],
    scores: Sequence[Score],
    split: str,
    target: str | None,
    seed: int,
    conditions: Json,
) -> Iterator[Measurement]:
    """Give the loss of the task's first metric by data file, and that of every label.

    Parameters
    ----------
    kind : Task
    teacher, found : Answers
        To `examples`.
    examples : sequence of Example
    labels : sequence of str
        The candidate's classes.
    scores : sequence of Score
        What `Task.score` gives of `found`: labels are those that it scores.
    split : str
    target : str or None
    seed : int
        Of the paired bootstrap.
    conditions : dict
        Of the answers.

    Yields
    ------
    Measurement
        Such as ``f1_drop`` of the slice ``file:hau``, with the 95 % interval of a paired bootstrap
        over the examples.
    """
    lost: list[tuple[str, str, float, float, float, int]] = []
    first = kind.metrics[0]
    if first.by_file:
        files = file_drops(first, teacher, found, examples, seed, labels)
        lost += [(first.name, f"file:{source}", *one) for source, one in files.items()]
    samples = {
        score.slice.removeprefix("label:"): score.samples
        for score in scores
        if score.slice and score.slice.startswith("label:")
    }
    named = {label: one for label in samples if (one := kind.of_label(label)) is not None}
    lost += [
        (named[label].name, f"label:{label}", *one, samples[label])
        for label, one in label_drops(named, teacher, found, examples, seed).items()
    ]
    told = {**conditions, "reference": "teacher", "resamples": RESAMPLES}
    for name, part, drop, low, high, count in lost:
        declared = metric(name)
        yield Measurement(
            declared.difference("teacher").name, drop, declared.unit, target, split, part,
            samples=count,
            interval=(min(low, drop), max(high, drop)),
            conditions=told,
        )  # fmt: skip
