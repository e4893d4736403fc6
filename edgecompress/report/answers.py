"""A model's answers beside the right ones and the teacher's: what is confused, what has flipped.

Counts go into ``results.json`` and so into a bundle; texts of the data never do: they stand in the
page of the run's own directory alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.tasks import Answers
from edgecompress.texts import label_of, tags_of, text_of, words_of
from edgecompress.values import Example, Json

MOST_CLASSES = 24
"""Classes that a matrix shows; the rest, those with the fewest mistakes, count as `OTHERS`."""
OTHERS = "(others)"
MOST_FLIPS = 8
"""Examples shown each way."""
LONGEST = 280
"""Characters shown of a text."""


@dataclass(frozen=True, slots=True)
class Flip:
    """An example that one of two models answers right and the other wrong.

    Attributes
    ----------
    text : str
        Cut to `LONGEST` characters; of an image or a sound what the data call it.
    source : str
        The data file that it came from; may be empty.
    differing : tuple of (str, str, str, str)
        Where the two models part: the word (empty for a whole text), the right label, the
        teacher's and the model's.
    """

    text: str
    source: str
    differing: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Flips:
    """Examples whose answer compression changed.

    Attributes
    ----------
    split : str
    examples : int
        How many were asked.
    broken, mended : int
        How many the teacher alone answers right, and how many the model alone.
    lost, gained : tuple of Flip
        Some of each, those first of whose wrong answer the model that gives it is most sure.
    """

    split: str
    examples: int
    broken: int
    mended: int
    lost: tuple[Flip, ...]
    gained: tuple[Flip, ...]


def confusion(answers: Mapping[str, Answers], examples: Sequence[Example], split: str) -> Json:
    """Count for every model which class was answered where which was right.

    Of tagged words the classes are the types of entities: ``B-PER`` and ``I-PER`` are ``PER``.

    Parameters
    ----------
    answers : mapping of str to Answers
        By the row's name; the teacher's first.
    examples : sequence of Example
        What they were asked.
    split : str

    Returns
    -------
    dict
        ``split``, ``counted`` (``words`` or ``examples``), ``classes``, and ``rows``: by name a
        matrix of counts, a line per right class and in it a number per answered class. Empty where
        no example has a label.
    """
    tagged = any(tags_of(example) for example in examples)
    pairs = {
        name: Counter(
            (_type(right), _type(said))
            for example, labels in zip(examples, found.labels, strict=True)
            for right, said in zip(_gold(example), labels, strict=False)
        )
        for name, found in answers.items()
    }
    wrong: Counter[str] = Counter()
    for counts in pairs.values():
        for (right, said), count in counts.items():
            wrong[right] += count * (right != said)
            wrong[said] += count * (right != said)
    if not wrong:
        return {}
    kept = sorted(wrong, key=lambda name: (-wrong[name], name))
    kept = kept if len(kept) <= MOST_CLASSES else kept[: MOST_CLASSES - 1]
    classes = sorted(kept, key=lambda name: (name == "O", name))
    classes += [OTHERS] if len(kept) < len(wrong) else []
    place = {name: index for index, name in enumerate(classes)}
    rows = {}
    for name, counts in pairs.items():
        matrix = [[0] * len(classes) for _ in classes]
        for (right, said), count in counts.items():
            matrix[place.get(right, -1)][place.get(said, -1)] += count
        rows[name] = matrix
    counted = "words" if tagged else "examples"
    return {"split": split, "counted": counted, "classes": classes, "rows": rows}


def flips(teacher: Answers, model: Answers, examples: Sequence[Example], split: str) -> Flips:
    """Find the examples that the teacher alone or the model alone answers right."""
    lost: list[tuple[float, Flip]] = []
    gained: list[tuple[float, Flip]] = []
    for index, example in enumerate(examples):
        right = _gold(example)
        before, after = teacher.labels[index], model.labels[index]
        if not right or (before == right) == (after == right):
            continue
        names = words_of(example) or ("",) * len(right)
        where = [place for place in range(len(right)) if before[place] != after[place]]
        found = Flip(
            _cut(" ".join(words_of(example)) or text_of(example) or example.id),
            words.plain(example.source),
            tuple(
                (words.plain(names[place]), right[place], before[place], after[place])
                for place in where[:6]
            ),
        )
        mistaken = model if before == right else teacher
        sure = max((float(mistaken.confidence[index][place]) for place in where), default=0.0)
        (lost if before == right else gained).append((sure, found))
    return Flips(
        split,
        len(examples),
        len(lost),
        len(gained),
        *(
            tuple(one for _, one in sorted(each, key=lambda pair: -pair[0])[:MOST_FLIPS])
            for each in (lost, gained)
        ),
    )


def _gold(example: Example) -> tuple[str, ...]:
    return tags_of(example) or ((label_of(example),) if label_of(example) else ())


def _type(label: str) -> str:
    """Give the type of an entity's tag: ``B-PER`` is ``PER``; a class is itself."""
    head, dash, rest = label.partition("-")
    return rest if dash and head in ("B", "I", "E", "S", "L", "U") and rest else label


def _cut(text: str) -> str:
    clean = words.plain(text)
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"
