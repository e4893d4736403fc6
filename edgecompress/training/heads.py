"""Whether a checkpoint's head was trained for a task, and what its classes are called; no torch.

A head that nobody trained is as good as a guess, and nothing in its answers shows it. So a head is
new only where training follows, a trained head is kept as it is, and its classes get the names that
the checkpoint or a person gives them: `labels: {LABEL_0: negative, LABEL_1: positive}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from edgecompress.errors import DataError
from edgecompress.tasks import task as find_task
from edgecompress.tasks import unanswered
from edgecompress.values import Example, Json
from edgecompress.words import meant

Renaming = Mapping[str, str] | tuple[str, ...] | Literal["new"] | None
"""What a recipe says of a head: names for its classes (by their old ones, or all in order), that a
new one is wanted, or nothing."""

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls the classes of a head that was given no names."""
SHOWN = 20
"""Names in a sentence; more are counted."""


@dataclass(frozen=True, slots=True)
class HeadRules:
    """What may be done about a head, and what to tell a person.

    Attributes
    ----------
    trained_later : bool
        Whether a training on the data follows, so that a head may be new.
    advice : str
        Else: what to do where the head is not trained, as the end of a sentence.
    renaming : mapping, tuple, ``new`` or None
        Names for the classes of a trained head, or that a new one is wanted.
    where : str
        Where a person writes such names, behind the line itself.
    examples : sequence of Example
        Of the validation split: they propose which class is which label.
    """

    trained_later: bool = False
    advice: str = "fine-tune it first (`edgecompress finetune`)"
    renaming: Renaming = None
    where: str = ""
    examples: Sequence[Example] = ()


class LabelsError(DataError):
    """The classes of a trained head are not the data's labels; the text says which line helps."""


def untrained(
    config: Json,
    task: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    folder: Path | None = None,
) -> str | None:
    """Say why a checkpoint's head is none for a task, as far as its files tell.

    Parameters
    ----------
    config : dict
        Its config.json.
    task : str
    shapes : mapping, optional
        Its tensors, where they are known.
    folder : Path, optional
        Where it lies.

    Returns
    -------
    str or None
        The reason, as a part of a sentence; None where the head is there.
    """
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    kind = find_task(task)
    endings, labelled = kind.head_classes, kind.labelled
    if not architecture and labelled:
        return (
            "its config.json names no `architectures`, so nobody knows what its head was trained "
            f"for (if it was for {task}, write the class there, …{endings[0]})"
        )
    if architecture and not architecture.endswith(endings):
        if kind.unchanged and (said := unanswered(architecture)):  # no new one could be trained
            raise DataError(said, file=folder)
        return f"it was saved as {architecture}, without a head for {task}"
    reason = kind.lacks_head(folder) if folder is not None else None
    if reason is not None:
        return reason
    prefixes = kind.head_tensors
    if shapes is not None and prefixes and not any(name.startswith(prefixes) for name in shapes):
        return f"it says {architecture or 'nothing of a head'}, but holds no weights of such a head"
    if labelled and len(class_names(config)) == 1:
        return "its head gives one number and cannot tell classes apart"
    if labelled and config.get("problem_type") == "regression":
        return "its head was trained to give numbers (problem_type: regression), not classes"
    if labelled and config.get("problem_type") == "multi_label_classification":
        return (
            "its head was trained to give any number of classes to a text (problem_type: "
            "multi_label_classification), and here a text has one"
        )
    return None


def new_head(reason: str | None, name: str, task: str, rules: HeadRules) -> str | None:
    """Give the reason for a new head; refuse one that nothing will train.

    Raises
    ------
    DataError
        Also where a recipe names the classes of a head that has none.
    """
    if rules.renaming is not None and not find_task(task).labelled:
        raise DataError(f"{task} has no classes to name; leave `labels` out")
    if reason is None and rules.renaming == "new":
        reason = "labels: new asks for a new one"
    if reason is not None and not rules.trained_later:
        raise DataError(
            f"nobody has trained the head of {name!r} for this: {reason}, and its answers would "
            f"be guesses; {rules.advice}"
        )
    return reason


def labels_of_new(task: str, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Give the classes of a new head: the data's labels.

    Raises
    ------
    DataError
        When there is no data.
    """
    if find_task(task).labelled and not labels:
        raise DataError(
            "the teacher has no head for this task and there is no data to name its labels"
        )
    return tuple(labels or ())


def class_names(config: Json) -> tuple[str, ...]:
    """Give the names of a head's classes by their ids, as transformers reads a config.json."""
    listed = config.get("id2label")
    if isinstance(listed, Mapping) and listed:
        try:
            ids = sorted(listed, key=int)
        except (TypeError, ValueError):
            raise DataError("id2label of config.json must map the numbers of classes") from None
        return _apart([str(listed[index]) for index in ids])
    count = config.get("num_labels", config.get("_num_labels", 2))
    return tuple(f"LABEL_{index}" for index in range(count if isinstance(count, int) else 2))


def _apart(names: Sequence[str]) -> tuple[str, ...]:
    """Give a class whose name another one before it has its number behind the name.

    Two of ImageNet's thousand are called crane: a bird and a machine.
    """
    found: dict[str, None] = {}
    for number, name in enumerate(names):
        found[f"{name} ({number})" if name in found else name] = None
    return tuple(found)


def renamed(names: Sequence[str], given: Renaming) -> tuple[str, ...]:
    """Give classes the names that a recipe gives them, in their order.

    Raises
    ------
    DataError
        When a class does not exist, or two would have one name.
    """
    if isinstance(given, tuple):
        if len(given) != len(names):
            raise DataError(f"labels: {len(given)} names for {len(names)} classes")
        names, given = given, None
    mapping = given if isinstance(given, Mapping) else {}
    for name in mapping:
        if name not in names:
            raise DataError(f"labels: the head has no class {name!r}{meant(name, names)}")
    found = tuple(mapping.get(name, name) for name in names)
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"labels: two classes would be called {twice!r}; give each its own name")
    return found


def check_labels(
    names: Sequence[str],
    labels: Sequence[str] | None,
    where: str = "",
    confirmed: Mapping[str, str] | None = None,
    evidence: str = "",
) -> None:
    """Refuse data with labels that a trained head does not have.

    Parameters
    ----------
    names : sequence of str
        Of the head's classes.
    labels : sequence of str or None
        Of the data; None where there is no data.
    where : str
        Where in a recipe the line belongs, such as `` under `teacher` ``.
    confirmed : mapping, optional
        Which class is which label, as the validation data say.
    evidence : str
        How clearly they say it.

    Raises
    ------
    LabelsError
        Naming both, and the line that helps.
    """
    missing = [label for label in labels or () if label not in names]
    if not missing:
        return
    both = (
        f"the data's labels are {_listed(labels or ())} and the classes of the trained head are "
        f"{_listed(names)}"
    )
    again = "or write `labels: new` there and fine-tune it, which draws a new head for the data"
    if len(labels or ()) > len(names):
        raise LabelsError(f"{both}, too few for the data; write `labels: new`{where} and fine-tune "
                          "it, which draws a new head")  # fmt: skip
    if confirmed:
        raise LabelsError(f"{both}; {evidence}: accept that by writing `{line(confirmed)}`{where}, "
                          + again)  # fmt: skip
    alike = alike_names(names, missing)
    if alike:
        raise LabelsError(f"{both}; if they mean the same, write `{line(alike)}`{where}, {again}")
    open_names = [name for name in names if name not in (labels or ())]
    example = ", ".join(f"{name}: …" for name in open_names[:SHOWN])
    how = evidence or "`edgecompress run` asks the validation data which is which"
    raise LabelsError(f"{both}; say which is which by writing `labels: {{{example}}}`{where} "
                      f"({how}), {again}")  # fmt: skip


def line(mapping: Mapping[str, str]) -> str:
    """Write a mapping as the line of a recipe."""
    text = yaml.safe_dump(
        {"labels": dict(mapping)}, default_flow_style=None, allow_unicode=True, sort_keys=False,
        width=10**6,
    )  # fmt: skip
    return text.strip()


def alike_names(names: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Pair classes and labels that differ in case and punctuation only; empty where one is left."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(_folded(name), []).append(name)
    found = {}
    for label in labels:
        alike = folded.get(_folded(label), [])
        if len(alike) != 1 or alike[0] in found:
            return {}
        found[alike[0]] = label
    return found


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
