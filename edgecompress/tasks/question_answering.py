"""The part of a passage that answers a question, or that none does; EM and F1 as SQuAD has them.

A passage that is longer than the model takes is read in windows that overlap. Of all windows the
part with the highest sum of scores is the answer, unless the first token, which stands for «no
answer», scores higher in every one of them (Devlin et al., 2019, "BERT", section 4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError, StageError
from edgecompress.metrics import Metric
from edgecompress.passages import answers_of, right_answers
from edgecompress.processors.passages import PassageSettings
from edgecompress.tables import Need
from edgecompress.tasks._spans import (
    EXACT,
    F1,
    Ids,
    Span,
    best_spans,
    best_threshold,
    tokens_at,
)
from edgecompress.tasks.answers import Answer, Answers, Findings
from edgecompress.tasks.asking import Field, Form
from edgecompress.tasks.base import TRIAL_WORDS, Floats, Floor, Task, check_outputs, softmax
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.taught import Output
from edgecompress.tasks.text_retrieval import is_text
from edgecompress.values import Example, Json

QUESTION = Field("question", "a text that is not empty", '"…"', is_text, "a question")
CONTEXT = Field("context", "a text that is not empty", '"…"', is_text, "a context")
ANSWER_START = Field(
    "answer_start", "a number of characters, or a list of such", "0", lambda _: True, ""
)
NOWHERE = -1e9
"""A score that is never chosen; finite, because 0 · infinity is no number."""


class QuestionAnswering(Task):
    """The part of a passage that answers a question."""

    name: ClassVar[str] = "question-answering"
    also_called: ClassVar[tuple[str, ...]] = ("squad", "extractive-qa", "reading-comprehension")
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    metrics: ClassVar[tuple[Metric, ...]] = (F1, EXACT)
    outputs: ClassVar[tuple[Output, ...]] = (
        Output("logits", "vector", apart=("start_logits", "end_logits")),
    )
    labelled: ClassVar[bool] = False
    answers: ClassVar[Need] = "welcome"
    target: ClassVar[str] = "answer"
    processor: ClassVar[str] = "passages"
    forms: ClassVar[tuple[Form, ...]] = ((QUESTION, CONTEXT),)
    records: ClassVar[tuple[Form, ...]] = ((QUESTION, CONTEXT), (QUESTION, CONTEXT, ANSWER_START))
    kept: ClassVar[tuple[str, ...]] = ("place",)
    does: ClassVar[str] = "finds the part of a passage that answers a question"
    windows: ClassVar[str] = "which overlap, and the best answer of all of them counts"
    head_tensors: ClassVar[tuple[str, ...]] = ("qa_outputs.",)

    def head_class(self, config: Any) -> type | None:
        """Give transformers' own, with both its scores in one tensor."""
        config.num_labels = 2
        head: Any = super().head_class(config)
        if head is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.answer_spans").spans_of(head)
        return made

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if any(not {"question", "context"} <= one.inputs.keys() for one in examples):
            raise DataError(
                f"{self.name} needs a question and its context; name their columns (data.columns: "
                "question, context), or take the format squad"
            )
        return ()

    def finished(
        self, inputs: Mapping[str, Any], target: Any, told: bool
    ) -> tuple[Mapping[str, Any], Any]:
        """Hold the answers of a record against its passage."""
        kept = {key: value for key, value in inputs.items() if key != ANSWER_START.name}
        start = inputs.get(ANSWER_START.name)
        return kept, right_answers(kept["context"], target, start) if told else None

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which has an answer."""
        if examples and all(answers_of(one) is None for one in examples):
            raise DataError(
                "no question has a right answer, by which the model is judged; name its column "
                "(data.columns: answer)"
            )

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each question into a row for every window of its passage.

        In a row's `place`, ``tokens`` int64 (tokens,) are the places of the passage's tokens and
        ``spans`` int64 (tokens, 2) their characters; ``positions`` and ``words`` number all tokens
        that begin behind the one before, by their window and character, so that those of two
        tokenizers can be set side by side. ``labels`` float32 (length, 2) are 1 at an answer's
        first and last token, and at the row's first one where the window holds no whole answer.

        Raises
        ------
        DataError
            When the tokenizer does not put two texts together.
        """
        self.label_names(examples)
        sides = [
            processor.encode_spans([one.inputs[key] for one in examples])
            for key in ("question", "context")
        ]
        found: list[Row] = []
        for number, (example, asked, read) in enumerate(zip(examples, *sides, strict=True)):
            ids, at = (each[: processor.settings.max_question_len] for each in asked)
            found += _windows(number, example, (ids, at), read, processor)
        return Rows(tuple(found), examples, self, processor, ())

    def loss(self, outputs: Any, targets: Mapping[str, Any]) -> Any | None:
        """Give the mean cross entropy of an answer's first and last token among those of its row.

        Parameters
        ----------
        outputs : mapping of str to torch.Tensor
            ``logits``: float (batch, length, 2).
        targets : mapping of str to torch.Tensor
            ``labels``: float (batch, length, 2), NaN in padding and where nobody has answered.
        """
        right = targets["labels"]
        real = ~right.isnan()
        scores = outputs[self.outputs[0].name].float().masked_fill(~real, NOWHERE)
        logs = scores.log_softmax(1).masked_fill(~real, 0.0)
        rows = real.any(1).sum().clamp(min=1)
        return -(logs * right.nan_to_num()).sum() / rows

    def compact(self, output: Floats, row: Row) -> Floats:
        """Keep the scores of what is no padding, float (length, 2)."""
        if output.ndim != 2 or output.shape[-1] != 2:
            raise StageError(
                f"the model gives {list(output.shape)} for a row, and {self.name} reads one tensor "
                "of two scores a token (start and end); export the model here"
            )
        return output[: row.cost]

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give the best part of each passage, empty where «no answer» scores higher.

        The confidence is the answer's share among the best parts and «no answer» (softmax). The
        details are ``place`` int64 (2,), the answer's first character and the one behind its last
        (-1 where there is none), ``no_answer``, the share of «no answer», ``best``, the best part
        whatever «no answer» scores, and ``margin``, how much higher that is.
        """
        check_outputs(outputs, rows)
        settings: PassageSettings = rows.processor.settings
        spans: list[list[Span]] = [[] for _ in rows.examples]
        none = np.full(len(rows.examples), np.inf)
        for row, values in zip(rows, outputs, strict=True):
            none[row.example] = min(none[row.example], float(values[0].sum()))
            place, longest = row.place, settings.max_answer_len
            spans[row.example] += best_spans(values, place["tokens"], place["spans"], longest)
        made = [_answer(each, nothing, example, settings.margin) for each, nothing, example in
                zip(spans, none.tolist(), rows.examples, strict=True)]  # fmt: skip
        return Answers(
            tuple(one.labels for one in made),
            tuple(one.confidence for one in made),
            tuple(one.details for one in made),
        )

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Answer every question with the first word of its passage, or with none.

        None, where most of `known` have none.
        """
        right = [one for one in map(answers_of, known) if one is not None]
        if not right:
            return None
        without = sum(not one.texts for one in right) / len(right)

        def first(example: Example) -> str:
            words = example.inputs["context"].split(maxsplit=1)
            return words[0] if words and without <= 0.5 else ""

        sure = np.array([max(without, 1 - without)])
        return Floor(
            "never an answer" if without > 0.5 else "the first word of every passage",
            "no answer" if without > 0.5 else "its first word",
            lambda examples: Answers(
                tuple((first(one),) for one in examples), (sure,) * len(examples)
            ),
        )

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the answer in JSON, with its characters in the passage.

        An empty ``answer`` has none of these; ``no_answer`` is how likely it is that there is none.
        """
        (text,), details = answer.labels, answer.details
        said = {"question": example.inputs["question"], "answer": text}
        place = dict(zip(("start", "end"), details["place"].tolist(), strict=True)) if text else {}
        sure = {"score": float(answer.confidence[0]), "no_answer": float(details["no_answer"])}
        return {**said, **place, **sure}

    def describe(self, said: Json) -> str:
        """Write the question, and the answer below it."""
        place = f"  [{said['start']}:{said['end']}]" if "start" in said else ""
        answer = " ".join(said["answer"].split()) or "no answer"
        return f"{' '.join(said['question'].split())}\n  {said['score']:6.1%}  {answer}{place}"

    def right(self, example: Example) -> Answer | None:
        """Give the first of the right answers."""
        found = answers_of(example)
        return None if found is None else Answer(((*found.texts, "")[0],), np.ones(1))

    def answered(self, examples: Sequence[Example], answers: Answers) -> list[Json]:
        """Write a model's own answers as records, with the character that each begins at."""
        return [
            {
                **{key: one.inputs[key] for key in ("question", "context")},
                "answer": {
                    "text": [label] if label else [],
                    "answer_start": details["place"].tolist()[:1] if label else [],
                },
            }
            for one, (label,), details in zip(
                examples, answers.labels, answers.details, strict=True
            )
        ]

    def tuned(self, answers: Answers, examples: Sequence[Example]) -> Json:
        """Choose the threshold of «no answer» by which these answers have the best F1."""
        found, before, after = best_threshold(answers, examples)
        return {"settings": {"no_answer_threshold": found}, "before": before, "after": after}

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the answer in words."""
        return answer.labels[0] or "no answer"

    def trial(self) -> tuple[Example, ...]:
        """Give two short passages, by which the number of threads is chosen."""
        texts = [" ".join(str(number % 100) for number in range(count)) for count in TRIAL_WORDS]
        return tuple(self.ask({"question": "which?", "context": text}) for text in texts)


def _windows(
    number: int, example: Example, asked: tuple[Ids, Ids], read: tuple[Ids, Ids], processor: Any
) -> Iterator[Row]:
    """Give the rows of one question."""
    (ids, at), (passage, spans) = asked, read
    before, between, behind = processor.pair_specials
    room = processor.max_length - len(ids) - before - between - behind
    if room < 1 and len(passage):
        ids, at = ids[: max(0, len(ids) + room - 1)], at[: max(0, len(ids) + room - 1)]
        room = 1
    step = room - min(processor.settings.doc_stride, room // 2)
    count = 1 + max(0, -(-(len(passage) - room) // step))
    begin = before + len(ids) + between
    question, context = example.inputs["question"], example.inputs["context"]
    right = answers_of(example)
    gold = None
    if right is not None and right.texts:
        gold = tokens_at(spans, right.starts[0], right.starts[0] + len(right.texts[0]))
    for window in range(count):
        low = window * step
        part, there = passage[low : low + room], spans[low : low + room]
        feed = processor.pair(ids, part)
        length = len(feed["input_ids"])
        labels = np.full((length, 2), np.nan, np.float32)
        if right is not None and (gold is not None or not right.texts):
            labels[:] = 0
            whole = gold is not None and low <= gold[0] and gold[1] < low + len(part)
            first, last = (
                (begin + gold[0] - low, begin + gold[1] - low) if whole and gold else (0, 0)
            )
            labels[first, 0] = labels[last, 1] = 1
        tokens = begin + np.arange(len(part))
        # First the row's first token, then the question's characters, then the passage's.
        character = np.concatenate(([0], 1 + at[:, 0], 1 + len(question) + there[:, 0]))
        places = np.concatenate(([0], before + np.arange(len(ids)), tokens))
        new = np.diff(np.maximum.accumulate(character), prepend=-1) > 0
        new[1:] &= places[1:] > 0
        place = {
            "tokens": tokens,
            "spans": _trimmed(there, context),
            "positions": places[new],
            "words": window * (2 + len(question) + len(context)) + character[new],
        }
        yield Row(feed, number, length, place, {"labels": labels})


def _trimmed(spans: Ids, text: str) -> Ids:
    """Leave blanks at the ends of tokens out, which some tokenizers count to them."""
    found = spans.copy()
    for place, (start, stop) in enumerate(spans.tolist()):
        part = text[start:stop]
        if part[:1].isspace() or part[-1:].isspace():
            found[place, 0] = start + len(part) - len(part.lstrip())
            found[place, 1] = max(found[place, 0], stop - len(part) + len(part.rstrip()))
    return found


def _answer(spans: Sequence[Span], nothing: float, example: Example, threshold: float) -> Answer:
    """Choose among the best parts of all windows and «no answer»."""
    best: dict[tuple[int, int], float] = {}
    for span in spans:
        place = (span.start, span.stop)
        best[place] = max(span.score, best.get(place, -np.inf))
    order = sorted(best, key=lambda one: (-best[one], one))
    shares = softmax(np.array([nothing, *(best[one] for one in order)]))
    start, stop = order[0] if order else (-1, -1)
    margin = nothing - best[order[0]] if order else np.inf
    text = example.inputs["context"][start:stop] if order else ""
    details = {"no_answer": float(shares[0]), "best": text, "margin": float(margin)}
    if not order or margin >= threshold:
        return Answer(("",), shares[:1], {"place": np.array((-1, -1)), **details})
    return Answer((text,), shares[1:2], {"place": np.array((start, stop)), **details})
