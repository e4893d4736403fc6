"""Agreement and the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import DataError
from edgecompress.tasks import Answers, task
from edgecompress.tasks.compare import CELLS, agreement, paired_bootstrap_drop
from edgecompress.tasks.metrics import ACCURACY, F1
from edgecompress.texts import tags_of, text_example, words_example

NER, TEXT = task("token-classification"), task("text-classification")


def answers_of(labels: list[tuple[str, ...]]) -> Answers:
    return Answers(tuple(labels), tuple(np.ones(len(one)) for one in labels))


def test_agreement_counts_labels() -> None:
    a = answers_of([("O", "O", "B-PER"), ("O",)])
    b = answers_of([("O", "B-PER", "B-PER"), ("O",)])
    assert agreement(a, b) == 0.75
    assert agreement(a, a) == 1
    assert agreement(answers_of([]), answers_of([])) == 1
    with pytest.raises(ValueError, match="argument"):
        agreement(a, answers_of([("O",)]))


def test_the_same_answers_lose_nothing() -> None:
    examples = [words_example(words=("w",), tags=("B-PER",))] * 9
    answers = answers_of([("B-PER",), ("O",), ("B-PER",)] * 3)
    assert paired_bootstrap_drop(F1, answers, answers, examples, seed=1) == (0, 0, 0)


def test_interval_is_that_of_a_plain_bootstrap() -> None:
    generator = np.random.default_rng(0)
    size = 300
    examples = [text_example(text="t", label="a")] * size
    before = generator.random(size) < 0.9
    after = before & (generator.random(size) < 0.9)
    say = {True: ("a",), False: ("b",)}
    reference = answers_of([say[bool(x)] for x in before])
    worse = answers_of([say[bool(x)] for x in after])
    drop, low, high = paired_bootstrap_drop(ACCURACY, reference, worse, examples, seed=3)
    lost = before.astype(float) - after
    assert drop == pytest.approx(lost.mean())
    error = 1.96 * lost.std() / np.sqrt(size)
    assert low == pytest.approx(drop - error, abs=0.01)
    assert high == pytest.approx(drop + error, abs=0.01)
    assert (drop, low, high) == paired_bootstrap_drop(ACCURACY, reference, worse, examples, seed=3)
    assert (drop, low, high) != paired_bootstrap_drop(ACCURACY, reference, worse, examples, seed=4)


def test_span_f1_interval_equals_resampling_the_sentences() -> None:
    generator = np.random.default_rng(5)
    tags = ("O", "B-PER", "B-LOC")
    gold = [tuple(generator.choice(tags, 6)) for _ in range(40)]
    said = [tuple(generator.choice(tags, 6)) for _ in range(40)]
    examples = [words_example(words=("w",) * 6, tags=tuple(map(str, one))) for one in gold]
    right, wrong = (
        answers_of([tags_of(e) for e in examples]),
        answers_of([tuple(map(str, one)) for one in said]),
    )
    drop, low, high = paired_bootstrap_drop(F1, right, wrong, examples, seed=2, resamples=200)
    drawn = np.random.default_rng(2).integers(0, 40, (200, 40))
    drops = []
    for indices in drawn:
        chosen = [examples[i] for i in indices]
        values = []
        for answers in (right, wrong):
            part = Answers(
                tuple(answers.labels[i] for i in indices),
                tuple(answers.confidence[i] for i in indices),
            )
            values.append(NER.score(part, chosen, tags)[0].value)
        drops.append(values[0] - values[1])
    assert (low, high) == pytest.approx(tuple(np.percentile(drops, (2.5, 97.5))))
    assert drop == pytest.approx(1 - NER.score(wrong, examples, tags)[0].value)


def test_large_sets_are_drawn_in_parts() -> None:
    size = CELLS // 3 + 1  # three parts for 5 resamples
    examples = [text_example(text="t", label="a")] * size
    same = answers_of([("a",)] * 1)
    all_right = Answers(same.labels * size, same.confidence * size)
    all_wrong = Answers((("b",),) * size, same.confidence * size)
    found = paired_bootstrap_drop(ACCURACY, all_right, all_wrong, examples, seed=0, resamples=5)
    assert found == (1, 1, 1)


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from("ab")] * 3), min_size=1, max_size=40),
    st.integers(0, 2**32),
)
def test_bounds_hold(triples: list[tuple[str, str, str]], seed: int) -> None:
    examples = [text_example(text="t", label=gold) for gold, _, _ in triples]
    reference = answers_of([(a,) for _, a, _ in triples])
    answers = answers_of([(b,) for _, _, b in triples])
    drop, low, high = paired_bootstrap_drop(ACCURACY, reference, answers, examples, seed, 200)
    assert -1 <= low <= high <= 1
    assert -1 <= drop <= 1
    back, low_back, high_back = paired_bootstrap_drop(
        ACCURACY, answers, reference, examples, seed, 200
    )
    assert (back, low_back, high_back) == pytest.approx((-drop, -high, -low))


def test_no_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="no examples to compare"):
        paired_bootstrap_drop(ACCURACY, answers_of([]), answers_of([]), [], seed=0)
