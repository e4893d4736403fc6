"""Answers as parts of passages: windows, what is chosen, and SQuAD's own comparison."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from question_models import questions, write_question_model

from edgecompress.errors import DataError, StageError
from edgecompress.passages import RightAnswers, right_answers
from edgecompress.processors import TextProcessor
from edgecompress.processors.passages import PassageProcessor, PassageSettings
from edgecompress.tasks import Answer, Answers, task
from edgecompress.tasks._spans import best_spans, best_threshold, exact, normalized, overlap
from edgecompress.values import Example

LONG = "Shugaban kasar Najeriya ya isa birnin Abuja a ranar Litinin " * 6


@pytest.fixture
def make_reader(make_preprocessor: Callable[[int], TextProcessor]) -> Callable[..., Any]:
    """Make a tokenizer of a length that reads passages by these settings."""

    def make(length: int, **settings: Any) -> PassageProcessor:
        base = make_preprocessor(length)
        given = {one.name: getattr(base, one.name) for one in fields(base)}
        return PassageProcessor(**given, settings=PassageSettings(**settings))

    return make


def asked(context: str, answer: str | None, start: int | None = None) -> Example:
    right = None if answer is None else right_answers(context, answer, start)
    return Example({"question": "Ina ya isa", "context": context}, right)


@pytest.mark.parametrize(
    ("said", "right", "em", "f1"),
    [
        ("the Panthers", "Panthers.", 1, 1),
        ("A  cat, an\town!", "cat own", 1, 1),
        ("another", "other", 0, 0),  # articles are whole words
        ("Denver Broncos", "the Denver team", 0, 0.5),
        ("in 1953-54", "1953-54", 0, 2 / 3),  # the dash goes, the digits come together
        ("rose rose rose", "rose", 0, 0.5),  # words are counted as often as they stand there
        ("", "", 1, 1),
        ("", "something", 0, 0),
        ("the", "", 1, 1),
        ("Zürich", "zürich", 1, 1),
        ("«Kano»", "Kano", 0, 0),  # other scripts' quotes stay, as in SQuAD's script
    ],
)
def test_answers_are_compared_as_squad_does(said: str, right: str, em: int, f1: float) -> None:
    assert exact(said, right) == em
    assert overlap(said, right) == pytest.approx(f1)
    assert overlap(right, said) == pytest.approx(f1)


def test_normalizing_again_changes_nothing() -> None:
    for text in ("The  the a.b", "U.S.", "a-the-an", "(1,000)"):
        assert normalized(normalized(text)) == normalized(text)


def test_the_best_of_several_right_answers_counts() -> None:
    context = "in the city of Kano today"
    example = Example({"question": "where", "context": context},
                      right_answers(context, ["city of Kano", "Kano"], [7, 15]))  # fmt: skip
    nobody = Example(example.inputs)
    none = Example(example.inputs, RightAnswers())
    kind = task("question-answering")
    for said, f1 in (("Kano", 1.0), ("of Kano", 0.8), ("", 0.0)):
        answers = kind.right(asked(context, "Kano"))
        assert answers is not None
        one = type(answers)((said,), np.ones(1))
        assert [m.counts(one, example)[0] for m in kind.metrics if m.counts] == [
            pytest.approx(f1), float(f1 == 1)]  # fmt: skip
        assert [m.counts(one, nobody)[1] for m in kind.metrics if m.counts] == [0, 0]
        assert [m.counts(one, none)[0] for m in kind.metrics if m.counts] == [not said] * 2


def test_windows_cover_a_long_passage_and_teach_where_the_answer_is(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    kind, processor = task("question-answering"), make_reader(48)
    start = LONG.rindex("Abuja")
    examples = [asked(LONG, "Abuja", start), asked(LONG, ""), asked(LONG, None)]
    rows = kind.rows(examples, processor, ())
    count = len(rows) // 3
    assert count > 3 and [row.example for row in rows] == sorted([0, 1, 2] * count)
    seen: set[int] = set()
    for row in rows.rows[:count]:
        assert row.cost == len(row.feed["input_ids"]) <= 48
        spans = row.place["spans"]
        assert row.feed["input_ids"][row.place["tokens"]].tolist() == [
            int(one) for one in row.feed["input_ids"][row.place["tokens"][0] : -1]]  # fmt: skip
        seen |= {at for one, two in spans.tolist() for at in range(one, two)}
        labels = row.target["labels"]
        assert labels.sum(0).tolist() == [1, 1]
        first, last = labels.argmax(0).tolist()
        if first:
            at = [int(np.flatnonzero(row.place["tokens"] == one)[0]) for one in (first, last)]
            assert LONG[spans[at[0], 0] : spans[at[1], 1]] == "Abuja"
            assert spans[at[0], 0] == start
        else:  # this window does not hold all of it
            assert last == 0 and not (spans[0, 0] <= start and start + 5 <= spans[-1, 1])
    assert seen == {at for at, one in enumerate(LONG) if not one.isspace()}
    for row in rows.rows[count : 2 * count]:
        assert row.target["labels"].argmax(0).tolist() == [0, 0]
    assert all(np.isnan(row.target["labels"]).all() for row in rows.rows[2 * count :])
    assert rows.labelled().tolist() == list(range(2 * count))


def test_the_best_of_all_windows_is_chosen_and_none_where_none_is_better(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    kind, processor = task("question-answering"), make_reader(48)
    rows = kind.rows([asked(LONG, None), asked(LONG, None)], processor, ())
    count = len(rows) // 2
    chance = np.random.default_rng(0)
    outputs = [chance.uniform(0, 1, (row.cost, 2)) for row in rows]
    for row, values in zip(rows, outputs, strict=True):
        values[row.place["tokens"][0] - 1] = 90  # what is no part of the passage is never chosen
        values[0] = 3 if row.example == 0 else 30
    place = rows.rows[2].place
    outputs[2][place["tokens"][4], 0] = outputs[2][place["tokens"][6], 1] = 9
    answers = kind.decode(outputs, rows)
    start, stop = int(place["spans"][4, 0]), int(place["spans"][6, 1])
    assert answers.labels == ((LONG[start:stop],), ("",))
    assert [one["place"].tolist() for one in answers.details] == [[start, stop], [-1, -1]]
    assert answers.details[0]["no_answer"] < 0.01 < 0.99 < answers.details[1]["no_answer"]
    # One window in which nothing says that there is no answer is enough.
    outputs[count + 1][0] = 0
    outputs[count + 1][rows.rows[count + 1].place["tokens"][1]] = 5
    assert kind.decode(outputs, rows).labels[1] != ("",)


def test_the_best_span_is_found() -> None:
    """By trying all of them."""
    chance = random.Random(4)
    for _ in range(200):
        size = chance.randint(1, 60)
        scores = np.array([[chance.gauss(0, 3), chance.gauss(0, 3)] for _ in range(size + 3)])
        tokens = np.arange(2, 2 + size)
        spans = np.stack((np.arange(size) * 3, np.arange(size) * 3 + 2), axis=1)
        found = best_spans(scores, tokens, spans, 30)
        every = {
            (int(spans[a, 0]), int(spans[b, 1])): scores[2 + a, 0] + scores[2 + b, 1]
            for a in range(size)
            for b in range(a, min(size, a + 30))
        }
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            assert every[one.start, one.stop] == pytest.approx(one.score)
        if size <= 20:
            assert found[0].score == pytest.approx(max(every.values()))


def test_windows_questions_and_answers_are_as_long_as_said(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    kind = task("question-answering")
    for stride, question in ((0, 1), (8, 2), (1000, 3)):
        reader = make_reader(40, doc_stride=stride, max_question_len=question)
        rows = kind.rows([asked(LONG, None)], reader, ())
        room = 40 - 3 - question
        assert {len(row.place["tokens"]) for row in rows.rows[:-1]} == {room}
        firsts = [int(row.place["spans"][0, 0]) for row in rows]
        tokens = reader.encode_spans([LONG])[0][1][:, 0].tolist()
        steps = np.diff([tokens.index(first) for first in firsts])
        assert set(steps) == {room - min(stride, room // 2)}
    for longest in (1, 3):
        reader = make_reader(200, max_answer_len=longest)
        rows = kind.rows([asked(LONG, None)], reader, ())
        values = np.zeros((rows.rows[0].cost, 2))
        place = rows.rows[0].place["tokens"]
        values[place[5], 0] = values[place[7], 1] = 9
        values[place[6]] = 5
        (label,) = kind.decode([values], rows).labels[0]
        first, last = (5, 7) if longest == 3 else (6, 6)
        spans = rows.rows[0].place["spans"]
        assert label == LONG[spans[first, 0] : spans[last, 1]]


def test_a_threshold_says_when_there_is_no_answer(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    kind = task("question-answering")
    for threshold, said in ((0.0, ""), (2.9, ""), (3.1, "Abuja"), (None, "Abuja")):
        reader = make_reader(48, no_answer_threshold=threshold)
        rows = kind.rows([asked("Abuja", None)], reader, ())
        values = np.zeros((rows.rows[0].cost, 2))
        values[0] = 2
        place = rows.rows[0].place["tokens"]
        values[place[0], 0] = values[place[-1], 1] = 0.5
        answers = kind.decode([values], rows)
        assert answers.labels == ((said,),)
        assert answers.details[0]["margin"] == pytest.approx(3)
        assert answers.details[0]["best"] == "Abuja"


def test_the_threshold_is_the_best_of_all() -> None:
    """By trying all of them; where 0 is as good as any, it stays."""
    chance = random.Random(5)
    kind = task("question-answering")
    for _ in range(100):
        examples, said = [], []
        for _ in range(chance.randint(1, 12)):
            right = chance.choice(("Kano", "", "Kano Abuja"))
            examples.append(asked("Kano Abuja", right))
            margin = chance.choice((-2.0, -1.5, -0.5, 0.0, 0.5, 1.0, 3.0, np.inf))
            details = {"best": "" if margin == np.inf else "Kano", "margin": margin}
            label = details["best"] if margin < 0 else ""
            said.append(Answer((label,), np.ones(1), details))
        answers = Answers(
            tuple(one.labels for one in said),
            tuple(one.confidence for one in said),
            tuple(one.details for one in said),
        )

        def f1(threshold: float, examples: Any = examples, said: Any = said) -> float:
            chosen = [one.details["best"] if one.details["margin"] < threshold else ""
                      for one in said]  # fmt: skip
            pairs = zip(chosen, examples, strict=True)
            return float(np.mean([kind.metrics[0].counts(Answer((text,), np.ones(1)), one)[0]
                                  for text, one in pairs]))  # fmt: skip

        found, before, after = best_threshold(answers, examples)
        assert before == pytest.approx(f1(0.0))
        assert after == pytest.approx(f1(np.inf if found is None else found))
        assert after == pytest.approx(max(f1(one / 4) for one in range(-20, 30)))
        if f1(0.0) == pytest.approx(after):
            assert found == 0
    with pytest.raises(DataError, match="no question has a right answer"):
        best_threshold(Answers((("",),), (np.ones(1),), ({},)), [asked("Kano", None)])


def test_the_loss_is_the_cross_entropy_of_both_ends(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    torch = pytest.importorskip("torch")
    from edgecompress.training.losses import row_losses

    kind, processor = task("question-answering"), make_reader(48)
    examples = [asked(LONG, "Abuja"), asked("Abuja", "Abuja"), asked("Abuja", None)]
    rows = kind.rows(examples, processor, ())
    numbers = list(range(len(rows)))
    labels = torch.from_numpy(rows.targets(numbers)["labels"])
    logits = torch.randn(labels.shape, generator=torch.Generator().manual_seed(1))
    wanted = []
    for number, row in enumerate(rows):
        if row.example < 2:
            for side in (0, 1):
                own = logits[number, : row.cost, side]
                right = int(row.target["labels"][:, side].argmax())
                wanted.append(float(torch.logsumexp(own, 0) - own[right]))
    found = kind.loss({"logits": logits}, {"labels": labels})
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-5)
    each = row_losses(kind, {"logits": logits}, {"labels": labels}).tolist()
    pairs = np.array(wanted).reshape(-1, 2).mean(1)
    assert each == pytest.approx([*pairs, *[0.0] * (len(each) - len(pairs))], rel=1e-5)
    alone = kind.loss({"logits": logits[-1:]}, {"labels": labels[-1:]})
    assert float(alone) == 0  # nobody has answered


def test_a_model_gives_what_transformers_gives(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from edgecompress.surgery.model import load_module
    from edgecompress.training.teacher import import_teacher
    from edgecompress.values import TorchModel

    theirs = write_question_model(tmp_path / "hub", "question-answering")
    made = import_teacher(str(tmp_path / "hub"), "question-answering", None, tmp_path / "made", 0)
    assert isinstance(made.model, TorchModel)
    module = load_module(made.model)
    kind = task("question-answering")
    examples = [Example({key: one[key] for key in ("question", "context")})
                for one in questions(5)]  # fmt: skip
    processor = PassageProcessor.load(made.preprocessor)
    rows = kind.rows(examples, processor, ())
    feed: dict[str, Any] = {
        name: torch.from_numpy(value)
        for name, value in rows.batch(range(len(rows)), processor.input_names).items()
    }
    with torch.inference_mode():
        ours, its = module(**feed).logits, theirs(**feed)
    assert torch.allclose(ours[..., 0], its.start_logits, atol=1e-5)
    assert torch.allclose(ours[..., 1], its.end_logits, atol=1e-5)


def test_a_graph_with_scores_apart_is_refused(
    make_reader: Callable[..., PassageProcessor],
) -> None:
    kind = task("question-answering")
    (row,) = kind.rows([asked("Abuja", None)], make_reader(48), ())
    with pytest.raises(StageError, match="reads one tensor of two scores a token"):
        kind.compact(np.zeros(row.cost), row)
