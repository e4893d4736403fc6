"""Which class of a trained head is which label, where the validation data say it clearly.

A proposal only: a person accepts it by writing it into the recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgecompress.texts import label_of, tags_of
from edgecompress.training.heads import HeadRules, LabelsError, check_labels
from edgecompress.values import Candidate, Example

EXAMPLES = 400
"""Validation examples that are asked: at 50 % a share is known to 5 points (95 %)."""
LEAST = 5
"""Answers of a class below which it says nothing."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the data say.

    Attributes
    ----------
    mapping : dict of str to str
        From classes of the head to labels of the data; empty where the data do not say it clearly.
    right, asked : int
        Answers (texts, or words) that are right by it, of those that were asked.
    """

    mapping: dict[str, str]
    right: int
    asked: int


def propose(candidate: Candidate, module: Any, examples: Sequence[Example]) -> Proposal:
    """Ask a head about labelled examples, and pair its classes with their labels.

    A class is paired with the label that most of its answers have. That counts only where the label
    leads the next one by twice the standard deviation of their difference (a sign test at about
    95 %), where no two classes want the same label, and where every label is found; one class and
    one label that are left over belong together.

    Parameters
    ----------
    candidate : Candidate
        Its labels are the head's classes.
    module : transformers.PreTrainedModel
        Its model, loaded.
    examples : sequence of Example
        Of the validation split.

    Returns
    -------
    Proposal
    """
    from edgecompress.training.encoding import make_rows

    step = max(1, len(examples) // EXAMPLES)
    asked = [example for example in examples if label_of(example) or tags_of(example)][::step]
    # The head does not know the data's labels, so it is asked without them.
    bare = [replace(example, target=None) for example in asked]
    if not bare:
        return Proposal({}, 0, 0)
    rows = make_rows(candidate, bare, module)
    answers = rows.task.decode(rows.outputs(module), rows)
    counts: dict[str, Counter[str]] = {name: Counter() for name in candidate.labels}
    for said, example in zip(answers.labels, asked, strict=True):
        truth = tags_of(example) or (label_of(example),)
        for answer, label in zip(said, truth, strict=False):
            counts[answer][label] += 1
    wanted = {label for count in counts.values() for label in count}
    mapping = _paired(counts, wanted)
    right = sum(counts[name][label] for name, label in mapping.items())
    return Proposal(mapping, right, sum(count.total() for count in counts.values()))


def _paired(counts: dict[str, Counter[str]], wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, count in counts.items():
        if count.total() < LEAST:
            continue
        (label, first), (_, second) = (*count.most_common(2), ("", 0))[:2]
        if first - second < 2 * (first + second) ** 0.5 or label in found.values():
            return {}
        found[name] = label
    unnamed, unfound = set(counts) - set(found), wanted - set(found.values())
    if len(unnamed) == 1 and len(unfound) == 1:
        found[unnamed.pop()] = unfound.pop()
        unfound = set()
    return {} if unfound else {name: found[name] for name in counts if name in found}


def check_names(
    made: Candidate, module: Any, labels: Sequence[str] | None, rules: HeadRules
) -> None:
    """Refuse a head whose classes are not the data's labels, with what validation says of them."""
    try:
        check_labels(made.labels, labels, rules.where)
    except LabelsError:
        found = propose(made, module, rules.examples)
        if not found.asked:
            raise
        clear = f"the validation data say which is which ({found.right} of {found.asked} right)"
        vague = f"the validation data ({found.asked} answers) do not say clearly which is which"
        evidence = clear if found.mapping else vague
        check_labels(made.labels, labels, rules.where, found.mapping, evidence)
