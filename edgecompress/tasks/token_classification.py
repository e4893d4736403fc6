"""A tag for every word: named entities and the like; span F1 by seqeval.

A word's tag is read at its first piece. Sentences longer than the model's rows become several
windows that begin and end between words, and are joined again when answers are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks import metrics
from edgecompress.tasks.answers import Answer, Answers, Finding, Findings, Score
from edgecompress.tasks.asking import TEXT, WORDS, Form
from edgecompress.tasks.base import (
    Floats,
    Floor,
    Task,
    check_outputs,
    label_id,
    softmax,
)
from edgecompress.tasks.entities import tagged_spans
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.texts import split_words, tags_of, text_of, words_of
from edgecompress.values import Example, Json
from edgecompress.words import listed

OUTSIDE = "O"


class TokenClassification(Task):
    """One label per word."""

    name: ClassVar[str] = "token-classification"
    also_called: ClassVar[tuple[str, ...]] = ("ner", "pos", "named-entity-recognition", "tagging")
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    label_metric: ClassVar[Metric | None] = metrics.F1
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.F1,
        metrics.PRECISION,
        metrics.RECALL,
        replace(metrics.ECE, whole=metrics.words_calibration),
    )
    forms: ClassVar[tuple[Form, ...]] = ((TEXT,), (WORDS,))
    target: ClassVar[str] = "tags"
    unsent: ClassVar[tuple[str, ...]] = ("words", "tags")
    does: ClassVar[str] = "labels the words of a text (token classification)"
    windows: ClassVar[str] = "which meet between two words and do not see each other"
    head_tensors: ClassVar[tuple[str, ...]] = ("classifier.", "score.", "logits_proj.")

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give ``O`` and then all other tags, sorted."""
        found = {tag for example in examples for tag in tags_of(example)}
        if not found:
            raise DataError("the data has no tags; token-classification needs words with tags")
        return (OUTSIDE, *sorted(found - {OUTSIDE}))

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Turn sentences into rows; see `windows` for how long ones are divided.

        In a row's `place`, ``positions`` int64 (words,) is where the first piece of each of its
        words stands, and ``words`` int64 (words,) which word of the example each is.

        Raises
        ------
        DataError
            When a tag is not among `classes`, or a sentence has not one tag per word.
        """
        ids_of = {label: index for index, label in enumerate(classes)}
        found = []
        pieces = processor.encode_words([words_of(example) for example in examples])
        for number, (example, (ids, words)) in enumerate(zip(examples, pieces, strict=True)):
            of_example, said = words_of(example), tags_of(example)
            if said and len(said) != len(of_example):
                raise DataError(
                    f"a sentence has {len(of_example)} words and {len(said)} tags: "
                    f"{' '.join(of_example[:8])} …"
                )
            tags = [label_id(ids_of, tag, example) for tag in said]
            gold = np.array(tags or [IGNORED] * len(of_example), dtype=np.int64)
            first = np.ones(len(words), dtype=bool)
            np.not_equal(words[1:], words[:-1], out=first[1:])
            for start, stop in windows(first, processor.capacity):
                here = np.flatnonzero(first[start:stop])
                row = processor.with_specials(ids[start:stop])
                at = here + len(processor.prefix)
                label = np.full(len(row), IGNORED, dtype=np.int64)
                label[at] = gold[words[start + here]]
                place = {"positions": at, "words": words[start + here]}
                found.append(Row({"input_ids": row}, number, len(row), place, {"labels": label}))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each word the likeliest tag at its first piece, and ``O`` to words without one."""
        check_outputs(outputs, rows)
        counts = [len(words_of(example)) for example in rows.examples]
        tags = [[OUTSIDE] * count for count in counts]
        confidence = [np.ones(count) for count in counts]
        for row, values in zip(rows, outputs, strict=True):
            probabilities = softmax(values[row.place["positions"]])
            winners = probabilities.argmax(axis=-1)
            words = row.place["words"]
            confidence[row.example][words] = probabilities.max(axis=-1)
            for word, winner in zip(words.tolist(), winners.tolist(), strict=True):
                tags[row.example][word] = rows.classes[winner]
        return Answers(
            tuple(tuple(sentence) for sentence in tags), tuple(confidence), _shortened(rows)
        )

    def by_label(
        self,
        answers: Answers,
        examples: Sequence[Example],
        labels: Sequence[str],  # noqa: ARG002 - entity types come from the gold spans
    ) -> list[Score]:
        """Score span F1 per type of entity."""
        return metrics.f1_by_type(answers, examples)

    def of_label(self, label: str) -> Metric | None:
        """Give span F1 of one type of entity."""
        return metrics.f1_of_type(label)

    def floor(
        self,
        known: Sequence[Example],
        processor: Any,  # noqa: ARG002 - the classes are the tags
    ) -> Floor | None:
        """Answer ``O`` to every word: no entity anywhere.

        Its confidence is the share of words in `known` that are none.
        """
        tags = Counter(tag for example in known for tag in tags_of(example))
        if not tags:
            return None
        share = tags[OUTSIDE] / tags.total()

        def answers(examples: Sequence[Example]) -> Answers:
            counts = [len(words_of(example)) for example in examples]
            return Answers(
                tuple((OUTSIDE,) * count for count in counts),
                tuple(np.full(count, share) for count in counts),
            )

        return Floor("never an entity", f"«{OUTSIDE}» to every word", answers)

    def ask(self, question: Any) -> Example:
        """Make an example of words, or of a text, which is split into words (`split_words`).

        Its inputs hold the text, the words, and their places in the text as ``spans``.
        """
        inputs = super().ask(question).inputs
        if "text" in inputs:
            text = inputs["text"]
            spans = split_words(text)
            words = tuple(text[start:stop] for start, stop in spans)
        else:
            words, spans = inputs["words"], joined_spans(inputs["words"])
            text = " ".join(words)
        return Example({"text": text, "words": words, "spans": spans})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the entities in JSON, with their characters in the text, the words and their tags.

        ``shortened`` is there where a word has more pieces than the model takes at once: its
        characters. Of such a word only the beginning was read.
        """
        words = words_of(example)
        text = text_of(example) or " ".join(words)
        spans = example.inputs.get("spans") or joined_spans(words)
        said: Json = {"text": text, "entities": []}
        confidence = answer.confidence.tolist()
        for kind, first, last in tagged_spans(answer.labels):
            start, end = spans[first][0], spans[last][1]
            score = sum(confidence[first : last + 1]) / (last + 1 - first)
            said["entities"].append(
                {"text": text[start:end], "label": kind, "start": start, "end": end, "score": score}
            )
        if "shortened" in answer.details:
            said["shortened"] = [list(spans[word]) for word in answer.details["shortened"]]
        return {**said, "words": list(words), "tags": list(answer.labels)}

    def describe(self, said: Json) -> str:
        """List the entities below their text."""
        width = max((len(one["label"]) for one in said["entities"]), default=0)
        lines = [
            f"  {one['label']:{width}}  {one['score']:6.1%}  {' '.join(one['text'].split())}"
            f"  [{one['start']}:{one['end']}]"
            for one in said["entities"]
        ]
        lines = lines or ["  nothing found"]
        lines += [
            f"  of the word [{start}:{end}] only the beginning was read: it has more pieces than "
            "the model takes at once"
            for start, end in said.get("shortened", ())
        ]
        return "\n".join([" ".join(said["text"].split()), *lines])

    def findings(self, answer: Answer, example: Example) -> Findings:
        """Give the entities, placed by their words."""
        words = words_of(example)
        found = []
        for kind, first, last in tagged_spans(answer.labels):
            text = " ".join(words[first : last + 1])
            data = {"text": text, "label": kind, "first_word": first, "last_word": last}
            found.append(Finding(f"{text} {kind}", tuple(data.items())))
        return tuple(found)

    def scope(self, labels: Sequence[str]) -> str:
        """Say which types of entities it finds."""
        kinds = list(dict.fromkeys(one.partition("-")[2] for one in labels if "-" in one))
        return f"It finds {listed(kinds, 30)}, and nothing else." if kinds else ""


def joined_spans(words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Give each word's (start, stop) in the words joined by blanks."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    return tuple((start, start + len(word)) for start, word in zip(starts, words, strict=False))


def _shortened(rows: Rows) -> tuple[dict[str, list[int]], ...]:
    """Find words with more pieces than a row takes; only such a word fills a row alone."""
    found: dict[int, list[int]] = {}
    for row in rows:
        inside = row.place["words"]
        if len(inside) == 1 and row.cost >= rows.processor.max_length:
            word = int(inside[0])
            asked = words_of(rows.examples[row.example])[word]
            ((pieces, _),) = rows.processor.encode_words([(asked,)])
            if len(pieces) > rows.processor.capacity:
                found.setdefault(row.example, []).append(word)
    if not found:
        return ()
    each = (found.get(number) for number in range(len(rows.examples)))
    return tuple({"shortened": words} if words else {} for words in each)


def windows(first: NDArray[np.bool_], capacity: int) -> list[tuple[int, int]]:
    """Divide a sentence's pieces into windows of at most `capacity` that begin with a word.

    Parameters
    ----------
    first : bool (pieces,)
        Where a word begins.
    capacity : int
        Most pieces in a window.

    Returns
    -------
    list of (start, stop)
        Every word's first piece lies in exactly one window, and the windows are about equally
        long, so that no word stands alone without context. Of a single word with more than
        `capacity` pieces only the first ones are kept: its tag is read at the first.
    """
    total = len(first)
    if total <= capacity:
        return [(0, total)] if total else []
    starts = [*np.flatnonzero(first).tolist(), total]
    # A word may end short of the even share, so that the share is worked out anew per window.
    result = []
    begin = 0
    while begin < len(starts) - 1:
        left = total - starts[begin]
        share = -(-left // -(-left // capacity))
        end = begin + 1
        while end < len(starts) - 1 and starts[end + 1] - starts[begin] <= capacity:
            if starts[end] - starts[begin] >= share:
                break
            end += 1
        result.append((starts[begin], min(starts[end], starts[begin] + capacity)))
        begin = end
    return result
