"""Answers that a model gave on a target, and how good they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from edgecompress.all_metrics import metric
from edgecompress.context import Context
from edgecompress.data.sample import stratified_sample
from edgecompress.errors import DataError
from edgecompress.examples import inputs_json
from edgecompress.provenance import code_digest
from edgecompress.targets import torch_answers
from edgecompress.targets.agent.arrays import pack, unpack
from edgecompress.targets.archive import agent_digest
from edgecompress.targets.base import Job, JobModel, Progress, Target, available_cores
from edgecompress.targets.inputs import encoded_feeds
from edgecompress.targets.local import Local
from edgecompress.targets.probe import ask
from edgecompress.targets.size import model_files
from edgecompress.targets.slices import slice_losses
from edgecompress.tasks import Answers, Floor, Task, foreign_code, load_processor, task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import (
    Candidate,
    Example,
    Json,
    Measurement,
    OnnxModel,
    TorchModel,
    directory_digests,
    file_digest,
    json_digest,
)


def answers(
    candidate: Candidate,
    examples: Sequence[Example],
    target: Target,
    progress: Progress | None = None,
) -> Answers:
    """Ask a candidate every example and read its answers.

    An ONNX model answers on `target`, batch 1: the ranges of dynamic int8 depend on the batch, and
    batch 1 is what is deployed. A PyTorch model answers in this process, in batches.

    Raises
    ------
    TargetError
        When the model cannot be loaded or run.
    DataError
        When examples cannot be encoded for it, or there are none.
    """
    if not examples:
        raise DataError("no examples to evaluate on; name a split that is not empty")
    if isinstance(candidate.model, TorchModel):
        return torch_answers.torch_answers(candidate, examples, progress)
    feeds, rows, _ = encoded_feeds(candidate, examples)
    column = rows.task.likelihoods
    if column:  # whole logits over a vocabulary would fill any disk
        right = tuple(row.target[column][None] for row in rows)
        feeds = replace(feeds, arrays={**feeds.arrays, column: right})
    job = Job(
        "answers", (JobModel(candidate.model),), (feeds,), threads=available_cores(),
        likelihoods=column,
    )  # fmt: skip
    outputs = ask(target, job, progress).outputs[0]
    logits = [row[0] for row in outputs[0]] if outputs else []
    return rows.task.decode(
        [rows.task.compact(one, row) for one, row in zip(logits, rows, strict=True)], rows
    )


def cached_answers(
    context: Context, candidate: Candidate, examples: Sequence[Example], target: Target
) -> Answers:
    """Give `answers`, asked once per model, examples and machine over all runs."""
    place = Local() if isinstance(candidate.model, TorchModel) else target
    kept = task(candidate.task).kept if candidate.task is not None else ()
    key = {
        "what": "answers",
        "code": [agent_digest(), code_digest(__name__), foreign_code(candidate.task)],
        "model": _model_key(candidate),
        "task": candidate.task,
        "labels": list(candidate.labels),
        "examples": json_digest([inputs_json(example) for example in examples]),
        "target": place.fingerprint(),
    }

    def build(folder: Path) -> None:
        found = answers(candidate, examples, target, context.progress)
        _write(found, folder, kept)

    return _read(context.cached(key, build), kept)


def _model_key(candidate: Candidate) -> Json:
    model = candidate.model
    key: Json = {"preprocessor": None, "session": None}
    if candidate.preprocessor is not None:
        key["preprocessor"] = directory_digests(candidate.preprocessor)
    if isinstance(model, OnnxModel):
        key["session"] = asdict(model.session)
        key["files"] = [file_digest(file) for file in model_files(model)]
    else:
        key["files"] = directory_digests(model.directory)
    return key


def _write(found: Answers, folder: Path, kept: Sequence[str]) -> None:
    text = json.dumps([list(labels) for labels in found.labels], ensure_ascii=False)
    (folder / "labels.json").write_text(text, encoding="utf-8")
    np.savez(folder / "confidence.npz", **pack("0", found.confidence))  # type: ignore[arg-type]
    for name in kept:
        each = [details[name] for details in found.details]
        np.savez(folder / f"{name}.npz", **pack("0", each))  # type: ignore[arg-type]


def _read(folder: Path, kept: Sequence[str]) -> Answers:
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    with np.load(folder / "confidence.npz", allow_pickle=False) as stored:
        confidence = unpack("0", dict(stored))
    arrays = {}
    for name in kept:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
            arrays[name] = unpack("0", dict(stored))
    details = tuple({name: arrays[name][n] for name in kept} for n in range(len(labels)))
    return Answers(
        tuple(tuple(each) for each in labels), tuple(confidence), details if kept else ()
    )


def observe_accuracy(
    candidate: Candidate,
    examples: Sequence[Example],
    split: str,
    target: str,
    context: Context,
) -> tuple[Measurement, ...]:
    """Score a candidate by the answers that a target gave; see `accuracy_measurements`.

    A PyTorch model answers on this machine only; so does the teacher of `context`, once per set
    of examples. On a slow target a stratified sample is asked, and compared with what the teacher
    and the host answered to the same examples.

    Raises
    ------
    DataError
        When the candidate has no task or tokenizer, or there are no examples.
    TargetError
        When the target cannot be reached, or the model cannot be loaded or run there.
    """
    if candidate.task is None:
        raise DataError("evaluate needs a task; name `task` and `data` in the recipe")
    kind = task(candidate.task)
    place: Target = context.target(target)
    here = isinstance(place, Local)
    if "answers" not in place.metrics or (isinstance(candidate.model, TorchModel) and not here):
        return ()
    asked = stratified_sample(examples, place.samples or len(examples), context.seed)
    sample = [examples[index] for index in asked]
    teacher = host = None
    if context.teacher is not None:
        teacher = cached_answers(context, context.teacher, examples, Local()).part(asked)
    if not here:
        host = cached_answers(context, candidate, examples, Local()).part(asked)
    return accuracy_measurements(
        kind,
        cached_answers(context, candidate, sample, place),
        teacher,
        sample,
        candidate.labels,
        split,
        place.name,
        context.seed,
        host=host,
        floor=answers_of_floor(kind, candidate, sample, context),
        of=len(examples),
    )


def floor_of(kind: Task, candidate: Candidate, context: Context) -> Floor | None:
    """Give the task's floor, counted on train, and on validation where there is no train.

    Pieces are those of the teacher's tokenizer where there is a teacher, so that one floor holds
    for every candidate.
    """
    folder = (context.teacher or candidate).preprocessor or candidate.preprocessor
    preprocessor = load_processor(kind.name, folder) if folder and not kind.labelled else None
    return kind.floor(context.train or context.validation, preprocessor)


def answers_of_floor(
    kind: Task, candidate: Candidate, examples: Sequence[Example], context: Context
) -> Answers | None:
    """Give what the floor answers to `examples`; None where the task has none here."""
    found = floor_of(kind, candidate, context)
    return found.answers(examples) if found is not None else None


def observe_floor(
    candidate: Candidate, examples: Sequence[Example], split: str, context: Context
) -> tuple[Floor, tuple[Measurement, ...]] | None:
    """Score the floor itself as a model is scored; it is measured on no target.

    Parameters
    ----------
    candidate : Candidate
        Of the task that is asked about; its tokenizer counts where there is no teacher.
    """
    kind = task(str(candidate.task))
    floor = floor_of(kind, candidate, context)
    if floor is None:
        return None
    teacher = None
    if context.teacher is not None:
        teacher = cached_answers(context, context.teacher, examples, Local())
    given = floor.answers(examples)
    labels = (context.teacher or candidate).labels
    measured = accuracy_measurements(
        kind, given, teacher, examples, labels, split, None, context.seed
    )
    return floor, measured


def accuracy_measurements(
    kind: Task,
    found: Answers,
    teacher: Answers | None,
    examples: Sequence[Example],
    labels: Sequence[str],
    split: str,
    target: str | None,
    seed: int,
    *,
    host: Answers | None = None,
    floor: Answers | None = None,
    of: int | None = None,
) -> tuple[Measurement, ...]:
    """Score answers, and compare them with the teacher's and the host's to the same examples.

    Parameters
    ----------
    kind : Task
    found : Answers
    teacher : Answers or None
    examples : sequence of Example
    labels : sequence of str
        The candidate's classes.
    split : str
        ``validation`` or ``test``.
    target : str or None
        Where the answers were given; None where no machine gave them.
    seed : int
        Of the paired bootstrap.
    host : Answers or None
        What the same candidate answered on this machine, for a target that is another.
    floor : Answers or None
        What answers all examples alike (`edgecompress.tasks.Floor`).
    of : int, optional
        How many examples these were drawn from.

    Returns
    -------
    tuple of Measurement
        The task's scores over all data and per slice, ``agreement`` (share of labels equal to the
        teacher's) and the loss of the task's first metric against the teacher (``f1_drop``), over
        all data, by data file and by label, with the 95 % interval of a paired bootstrap over
        examples. Against the host ``host_difference``
        (share of labels that differ) and what the metric loses (``f1_host_drop``), against the
        floor what it gains (``f1_over_floor``), with the same interval.
    """
    conditions: Json = {"batch": 1}
    if of is not None and of > len(examples):
        conditions |= {"sample": len(examples), "of": of}
    scores = kind.score(found, examples, labels)
    measured = [
        Measurement(
            score.metric,
            score.value,
            metric(score.metric).unit,
            target,
            split,
            slice=score.slice,
            samples=score.samples,
            conditions=conditions,
        )
        for score in scores
    ]
    labels_given = sum(len(each) for each in found.labels)

    def difference(against: str, reference: Answers) -> Measurement:
        first = kind.metrics[0]
        pair = (found, reference) if against == "floor" else (reference, found)
        lost, low, high = paired_bootstrap_drop(first, *pair, examples, seed, labels=labels)
        return Measurement(
            first.difference(against).name, lost, first.unit, target, split,
            samples=len(examples),
            interval=(min(low, lost), max(high, lost)),
            conditions={**conditions, "reference": against, "resamples": 1000},
        )  # fmt: skip

    if host is not None:
        differing = 1 - kind.agreement(found, host)
        measured += [
            Measurement(
                "host_difference", differing, "fraction", target, split,
                samples=labels_given, conditions={**conditions, "reference": "host"},
            ),
            difference("host", host),
        ]  # fmt: skip
    if floor is not None:
        measured.append(difference("floor", floor))
    if teacher is None:
        return tuple(measured)
    measured += [
        Measurement(
            "agreement", kind.agreement(found, teacher), "fraction", target, split,
            samples=labels_given, conditions={**conditions, "reference": "teacher"},
        ),
        difference("teacher", teacher),
    ]  # fmt: skip
    measured += slice_losses(
        kind, teacher, found, examples, labels, scores, split, target, seed, conditions
    )
    return tuple(measured)
