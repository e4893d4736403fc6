"""Which answers of two bundles differ on the same texts, for better or for worse.

Reading the texts and counting need the standard library only: a device can be asked, too, and
should be, as 8-bit models answer differently from processor to processor.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecompress.errors import DataError
from edgecompress.tables import SUFFIXES, examples, open_table, take_columns
from edgecompress.tasks import task as find_task
from edgecompress.tasks import wanted
from edgecompress.tasks.answers import Answer, Findings, joined
from edgecompress.tasks.scoring import value_of
from edgecompress.textfiles import TAG, conll_sentences, read_lines
from edgecompress.texts import text_example, words_example
from edgecompress.values import Example, Json

if TYPE_CHECKING:
    from edgecompress.runtime import Prediction, Predictor

CONLL, TEXT = "conll", "text"
"""Forms of files that have no columns."""
Verdict = Literal["right to wrong", "wrong to right", "wrong to wrong", ""]
VERDICTS: tuple[Verdict, ...] = ("right to wrong", "wrong to right", "wrong to wrong")


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A text that the two bundles answer differently.

    `known` is the right answer, None where it is not known; `verdict` is empty then.
    """

    text: str
    old: Findings
    new: Findings
    known: Findings | None = None
    verdict: Verdict = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """Texts of one source (a data file): how many were asked, and how many answers flipped."""

    source: str
    asked: int
    flipped: int
    right_to_wrong: int
    wrong_to_right: int


@dataclass(frozen=True, slots=True)
class AnswerChanges:
    """What two bundles answer to the same texts.

    Attributes
    ----------
    asked, labelled : int
        Texts, and how many of them have a known answer.
    flips : tuple of AnswerChange
        In the order of the texts.
    parts : tuple of SourceChanges
        By source, where there are several.
    metric : str or None
        The task's first metric over the labelled texts; None without any.
    old_score, new_score : float or None
        In its unit.
    p_value : float or None
        Two-sided exact McNemar test of right to wrong against wrong to right: how likely so uneven
        a split is where neither bundle is better.
    """

    asked: int
    labelled: int
    flips: tuple[AnswerChange, ...]
    parts: tuple[SourceChanges, ...] = ()
    metric: str | None = None
    old_score: float | None = None
    new_score: float | None = None
    p_value: float | None = None

    @property
    def share(self) -> float:
        """Share of the texts whose answers differ; 0 for none."""
        return len(self.flips) / self.asked if self.asked else 0.0

    def count(self, verdict: Verdict) -> int:
        """Count the flips of one kind."""
        return sum(one.verdict == verdict for one in self.flips)

    def to_json(self) -> Json:
        """Give all of it as JSON."""
        return {
            "asked": self.asked,
            "labelled": self.labelled,
            "flipped": len(self.flips),
            "share": self.share,
            **{verdict.replace(" ", "_"): self.count(verdict) for verdict in VERDICTS},
            "metric": self.metric,
            "old_score": self.old_score,
            "new_score": self.new_score,
            "p_value": self.p_value,
            "parts": [asdict(one) for one in self.parts],
            "flips": [
                {
                    "text": one.text,
                    "source": one.source,
                    "old": _answer_json(one.old),
                    "new": _answer_json(one.new),
                    "known": None if one.known is None else _answer_json(one.known),
                    "verdict": one.verdict or None,
                }
                for one in self.flips
            ],
        }


def read_examples(
    files: Sequence[Path],
    task: str,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[Example, ...]:
    """Read texts, with their answers where the files have them.

    Parameters
    ----------
    files : sequence of Path
    task : str
        Of the bundles that are to be asked.
    form : str, optional
        ``conll``, ``text`` or one of `edgecompress.tables.FORMATS`; by default told from each file:
        a suffix such as ``.csv`` says that it has columns, a file whose first line that is not
        blank is a word and a tag is CoNLL (for token classification), any other has one text a
        line.
    columns : mapping of str to str, optional
        Of a file with columns: what it calls the things that the task names.

    Raises
    ------
    DataError
        When a file is missing, malformed, or of the other task.
    """
    out: list[Example] = []
    names = _names(files)
    for file in files:
        found = form or _format(file, task)
        if found == CONLL and find_task(task).target != "tags":
            raise DataError(f"{found} files do not hold what {task} answers", file=file)
        before = len(out)
        source = names[file]
        if found == CONLL:
            out += [words_example(words=w, tags=t, source=source) for w, t in conll_sentences(file)]
        elif found == TEXT:
            out += [
                text_example(text=one, source=source) for one in read_lines(file) if one.strip()
            ]
        else:
            table = open_table(file, form)
            taken = take_columns(
                table,
                columns or {},
                wanted(find_task(task), answers="welcome"),
                "give --columns {}=NAME",
            )
            out += [example for _, example, _ in examples(table, taken, source)]
        if len(out) == before:
            raise DataError("holds no text", file=file)
    return tuple(out)


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Name files by their paths below the folder that all are in; one alone needs no name."""
    if len(files) < 2:
        return dict.fromkeys(files, "")
    whole = [file.absolute() for file in files]
    common = os.path.commonpath([file.parent for file in whole])
    return {
        file: path.relative_to(common).as_posix() for file, path in zip(files, whole, strict=True)
    }


def _format(file: Path, task: str) -> str:
    if file.suffix.lower() in SUFFIXES:
        return file.suffix
    if find_task(task).target == "tags":
        first = next((line.split() for line in read_lines(file) if line.strip()), [])
        if first[:1] == ["-DOCSTART-"] or (len(first) == 2 and TAG.fullmatch(first[1])):
            return CONLL
    return TEXT


def ask(predictor: Predictor, examples: Iterable[Example]) -> Iterator[Prediction]:
    """Ask a bundle, one example at a time, as it was measured."""
    return map(predictor.answer, examples)


def compare_answers(
    task: str, examples: Sequence[Example], old: Iterable[Prediction], new: Iterable[Prediction]
) -> AnswerChanges:
    """Compare two bundles' answers to `examples`, in their order."""
    kind = find_task(task)
    flips: list[AnswerChange] = []
    totals: dict[str, list[int]] = {}
    scored: list[tuple[Example, Answer, Answer]] = []
    for example, *said in zip(examples, old, new, strict=True):
        before, after = (one.answer for one in said)
        if before is None or after is None:
            raise TypeError("only answers that a bundle has just given are compared")
        a, b = (kind.findings(one, example) for one in (before, after))
        verdict: Verdict = ""
        right = kind.right(example)
        known = None if right is None else kind.findings(right, example)
        if known is not None:
            scored.append((example, before, after))
            verdict = _verdict(a == known, b == known)
        if a != b:
            flips.append(AnswerChange(said[0].text, a, b, known, verdict, example.source))
        total = totals.setdefault(example.source, [0, 0, 0, 0])
        total[0] += 1
        total[1] += a != b
        total[2] += a != b and verdict == "right to wrong"
        total[3] += a != b and verdict == "wrong to right"
    worse, better = (sum(total[index] for total in totals.values()) for index in (2, 3))
    found = AnswerChanges(
        asked=sum(total[0] for total in totals.values()),
        labelled=len(scored),
        flips=tuple(flips),
        parts=tuple(SourceChanges(name, *total) for name, total in totals.items())
        * (len(totals) > 1),
    )
    if not scored:
        return found
    metric = kind.metrics[0]
    asked, *given = zip(*scored, strict=True)
    scores = [value_of(metric, joined(each), asked, ())[0] for each in given]
    return replace(
        found,
        metric=metric.name,
        old_score=scores[0],
        new_score=scores[1],
        p_value=mcnemar(worse, better),
    )


def mcnemar(worse: int, better: int) -> float:
    """Two-sided exact McNemar test (a sign test on the answers that changed sides).

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions"; exact by the binomial distribution.

    >>> mcnemar(0, 0), mcnemar(5, 0)
    (1.0, 0.0625)
    """
    total = worse + better
    tail = sum(math.comb(total, k) for k in range(min(worse, better) + 1))
    return min(1.0, 2 * tail / 2**total)


def in_words(found: Findings) -> str:
    """Write an answer for people: ``swa``; ``Abuja LOC, Buhari PER``; ``nothing``."""
    if isinstance(found, str):
        return found
    return ", ".join(one.words for one in found) or "nothing"


def _verdict(before: bool, after: bool) -> Verdict:
    if before == after:
        return "" if before else "wrong to wrong"
    return "right to wrong" if before else "wrong to right"


def _answer_json(found: Findings) -> object:
    return found if isinstance(found, str) else [dict(one.data) for one in found]
