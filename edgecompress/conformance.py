"""Whether what somebody adds keeps its contract: each check proves it, or names what is broken.

A third party runs these on its own task, format or processor as our tests run them on all of ours;
`check_stage` and `check_target` stand beside what they check, and can be had here too. The habit is
scikit-learn's (`parametrize_with_checks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.data import DataConfig, Split
from edgecompress.errors import DataError, EdgeCompressError
from edgecompress.examples import inputs_json
from edgecompress.processors import Array, Feed, Processor
from edgecompress.stage import check_stage
from edgecompress.targets.conformance import check_target
from edgecompress.tasks import Answers, Row, Rows, Task
from edgecompress.tasks.rows import IGNORED
from edgecompress.tasks.scoring import counts_of
from edgecompress.values import Example

__all__ = [
    "ContractError",
    "check_processor",
    "check_reader",
    "check_stage",
    "check_target",
    "check_task",
]


class ContractError(EdgeCompressError):
    """Something that was added breaks its contract; the text names the promise."""


def check_processor(processor: Processor, feeds: Sequence[Feed], names: Sequence[str]) -> None:
    """Prove that a processor puts rows together without changing them.

    Checked: a batch of one is the row with a batch axis; in a batch of several each row begins with
    its own values; the same rows give the same batch; an input that no row gives is refused by its
    name.

    Parameters
    ----------
    processor : Processor
    feeds : sequence of mapping of str to ndarray
        Of at least two rows, of unlike lengths where lengths can be unlike.
    names : sequence of str
        Inputs that a model of this kind takes.

    Raises
    ------
    ContractError
        Naming the first promise that is broken.
    """
    who = f"processor {processor.kind!r}"
    alone = [processor.batch([feed], names) for feed in feeds]
    for feed, batch in zip(feeds, alone, strict=True):
        for name in feed.keys() & batch.keys():
            if not np.array_equal(batch[name], feed[name][None]):
                raise ContractError(f"{who}: a batch of one changes the input {name!r}")
    together = processor.batch(feeds, names)
    for name in names:
        if name not in together:
            raise ContractError(f"{who}: the input {name!r} was asked for and not given")
        for number, batch in enumerate(alone):
            own = batch[name][0]
            inside = together[name][number][tuple(slice(size) for size in own.shape)]
            if not np.array_equal(inside, own):
                raise ContractError(f"{who}: {name!r} of a row changes with its neighbours")
    again = processor.batch(feeds, names)
    if any(not np.array_equal(again[name], together[name]) for name in names):
        raise ContractError(f"{who}: the same rows give two batches")
    _refuses(
        f"{who}: an unknown input", "nobody_gives_this", lambda name: processor.batch(feeds, [name])
    )


def check_reader(data: DataConfig, splits: Sequence[Split] = ("train",)) -> None:
    """Prove that a data format is read alike each time, and says what is wrong with a file.

    Checked: the description survives JSON; two readings give the same examples with the same
    digest; every example has inputs; the files that it names exist, and one that is missing is
    named, or the folder that lacks it, or is known to be missing by another digest, where a folder
    says which files there are.

    Raises
    ------
    ContractError
        Naming the first promise that is broken.
    """
    who = f"format {data.format!r}"
    again = type(data).model_validate(data.model_dump(mode="json"))
    if again.model_dump() != data.model_dump():
        raise ContractError(f"{who}: its fields change in a JSON round trip")
    type(data).model_json_schema()
    for split in splits:
        found = data.read(split)
        if not found:
            raise ContractError(f"{who}: {split} holds no example, and no error says so")
        if not all(isinstance(one.inputs, Mapping) and one.inputs for one in found):
            raise ContractError(f"{who}: an example of {split} has no inputs")
        if _plain(data.read(split)) != _plain(found) or data.digest(split) != data.digest(split):
            raise ContractError(f"{who}: {split} is not the same when it is read again")
        for file in data.files(split):
            if not file.is_file():
                raise ContractError(f"{who}: names {file}, which is no file")
            _missing(who, data, split, file)


def _plain(examples: Sequence[Example]) -> list[Any]:
    """Give what can be compared of examples: inputs may be arrays."""
    return [(inputs_json(one), one.target, one.source, one.id) for one in examples]


def _missing(who: str, data: DataConfig, split: Split, file: Path) -> None:
    before = data.digest(split)
    aside = file.with_name(f"{file.name}.aside")
    file.rename(aside)
    try:
        data.read(split)
    except DataError as error:
        # A folder of files that belong together is read by somebody else's library.
        whole = error.file is not None and error.file.is_dir() and file.is_relative_to(error.file)
        if file.name not in str(error) and not whole:
            raise ContractError(f"{who}: a missing file is not named ({error})") from None
    else:
        if data.digest(split) == before:
            raise ContractError(f"{who}: a file that is missing is not missed")
    finally:
        aside.rename(file)


def check_task(
    task: Task,
    examples: Sequence[Example],
    processor: Processor,
    classes: Sequence[str],
    outputs: Callable[[Row], Array] | None = None,
) -> None:
    """Prove that a task turns examples into rows and outputs into answers as it says.

    Checked: rows are the same each time and do not depend on the examples around them; an example
    that nobody labelled teaches nothing; a label that is no class is refused by its name; a perfect
    model gets the best score of every metric that is a sum, and what answers every example alike
    does not get a better one; every metric sums up as many counts for each example.

    Parameters
    ----------
    task : Task
    examples : sequence of Example
        At least two, with targets.
    processor : Processor
        Of the kind that the task names.
    classes : sequence of str
    outputs : callable, optional
        Gives what a perfect model would answer to a row; without it the right class of `classes`.

    Raises
    ------
    ContractError
        Naming the first promise that is broken.
    """
    who = f"task {task.name!r}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", task.name):
        raise ContractError(f"{who}: a name is written in small letters with dashes")
    if task.processor != processor.kind:
        raise ContractError(f"{who}: wants a processor {task.processor!r}, not {processor.kind!r}")
    if not task.metrics:
        raise ContractError(f"{who}: declares no metric")
    rows = task.rows(examples, processor, classes)
    _check_rows(who, rows, len(examples))
    again = task.rows(examples, processor, classes)
    if again.digest() != rows.digest():
        raise ContractError(f"{who}: the same examples give other rows")
    apart = [row for one in examples for row in task.rows([one], processor, classes)]
    if replace(rows, rows=tuple(apart)).digest() != rows.digest():
        raise ContractError(f"{who}: the rows of an example depend on its neighbours")
    if task.labelled:
        _check_targets(who, task, examples, processor, classes)
    perfect = outputs or (lambda row: _right(row, len(classes)))
    made = [task.compact(perfect(row), row) for row in rows]
    _check_answers(who, task, task.decode(made, rows), rows)
    _check_floor(who, task, rows)


def _check_rows(who: str, rows: Rows, examples: int) -> None:
    before = 0
    for row in rows:
        if not before <= row.example < examples:
            raise ContractError(f"{who}: rows must come in the order of their examples")
        before = row.example
        if row.cost < 1:
            raise ContractError(f"{who}: a row costs {row.cost}, and at least 1 is needed")
        if not row.feed or not all(isinstance(one, np.ndarray) for one in row.feed.values()):
            raise ContractError(f"{who}: a row's feed must hold arrays")
        if "labels" not in row.target:
            raise ContractError(f"{who}: a row's target must hold labels, ignored or not")


def _check_targets(
    who: str, task: Task, examples: Sequence[Example], processor: Processor, classes: Sequence[str]
) -> None:
    bare = task.rows([replace(one, target=None) for one in examples], processor, classes)
    if len(bare.labelled()):
        raise ContractError(f"{who}: an example without a target has labels")
    if not len(task.rows(examples, processor, classes).labelled()):
        raise ContractError(f"{who}: examples with a target have no labels")
    if set(task.label_names(examples)) - set(classes):
        raise ContractError(f"{who}: label_names gives other classes than these")
    label = task.label_names(examples)[-1]
    fewer = [name for name in classes if name != label]
    _refuses(
        f"{who}: a label that is no class", label, lambda _: task.rows(examples, processor, fewer)
    )


def _right(row: Row, classes: int) -> Array:
    labels = row.target["labels"]
    return (
        np.where(labels == IGNORED, 0, 1)[..., None] * np.eye(classes)[np.maximum(labels, 0)] * 20
    )


def _check_answers(who: str, task: Task, answers: Answers, rows: Rows) -> None:
    if len(answers.labels) != len(rows.examples):
        raise ContractError(
            f"{who}: {len(answers.labels)} answers to {len(rows.examples)} examples"
        )
    scores = task.score(answers, rows.examples, rows.classes)
    found = {score.metric: score.value for score in scores if score.slice is None}
    for metric in task.metrics:
        if metric.name not in found:
            if metric.optional:
                continue
            raise ContractError(f"{who}: declares {metric.name!r} and does not give it")
        counts = counts_of(metric, answers, rows.examples)
        if counts is None or metric.value is None:
            continue
        value = float(metric.value(counts.sum(axis=0)))
        if not np.isclose(value, found[metric.name], rtol=1e-9):
            raise ContractError(f"{who}: {metric.name!r} is not what its counts sum up to")
        if metric.higher_is_better and metric.unit == "fraction" and value < 0.99:
            raise ContractError(f"{who}: a perfect model gets {value:.3f} of {metric.name!r}")


def _check_floor(who: str, task: Task, rows: Rows) -> None:
    floor = task.floor(rows.examples, rows.processor)
    if floor is None:
        return
    answers = floor.answers(rows.examples)
    if len(answers.labels) != len(rows.examples):
        raise ContractError(f"{who}: the floor does not answer every example")
    task.score(answers, rows.examples, rows.classes)


def _refuses(what: str, name: str, call: Callable[[str], Any]) -> None:
    try:
        call(name)
    except DataError as error:
        if name not in str(error):
            raise ContractError(f"{what} is refused without its name ({error})") from None
    else:
        raise ContractError(f"{what} is not refused")
