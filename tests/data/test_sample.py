"""A stratified sample: shares kept, the same each time, all where few are there."""

from __future__ import annotations

from collections import Counter

from helpers import labelled_texts, tagged_examples
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.data.sample import stratified_sample, stratum

TAGGED = tagged_examples(300, seed=5)


@given(st.integers(1, 320), st.integers(0, 5))
def test_every_stratum_keeps_its_share(count: int, seed: int) -> None:
    chosen = stratified_sample(TAGGED, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(TAGGED))
    assert list(chosen) == sorted(chosen)
    all_of = Counter(stratum(example) for example in TAGGED)
    taken = Counter(stratum(TAGGED[index]) for index in chosen)
    for name, size in all_of.items():
        exact = size * len(chosen) / len(TAGGED)
        assert abs(taken[name] - exact) < 1


def test_the_same_seed_gives_the_same_sample() -> None:
    assert stratified_sample(TAGGED, 50, 1) == stratified_sample(TAGGED, 50, 1)
    assert stratified_sample(TAGGED, 50, 1) != stratified_sample(TAGGED, 50, 2)


def test_texts_are_told_apart_by_label_and_file() -> None:
    texts = labelled_texts(100)
    chosen = stratified_sample(texts, 40, 0)
    assert {stratum(texts[index]) for index in chosen} == {stratum(text) for text in texts}
    assert stratified_sample((), 10, 0) == ()
