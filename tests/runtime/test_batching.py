"""Batches of similar length: every row once, little padding, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecompress.runtime.batching import MAX_TOKENS, length_batches

lengths = st.lists(st.integers(1, 600), max_size=80)


@given(lengths, st.integers(1, 20), st.booleans())
def test_every_row_is_in_one_batch(lengths: list[int], size: int, padding: bool) -> None:
    batches = length_batches(lengths, size, padding=padding)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        found = [lengths[row] for row in rows]
        assert 1 <= len(rows) <= size
        assert len(rows) == 1 or max(found) * len(rows) <= MAX_TOKENS + 7 * len(rows)
        if not padding:
            assert len(set(found)) == 1


@given(lengths)
def test_one_row_at_a_time_keeps_the_order(lengths: list[int]) -> None:
    assert length_batches(lengths, 1) == [[row] for row in range(len(lengths))]


@given(lengths, st.integers(2, 20))
def test_padding_stays_small(lengths: list[int], size: int) -> None:
    for rows in length_batches(lengths, size):
        found = [-(-lengths[row] // 8) * 8 for row in rows]
        assert max(found) * len(found) <= 1.25 * sum(found)


def test_neighbours_in_length_stand_together() -> None:
    assert length_batches([3, 90, 4, 88, 5], 2) == [[1, 3], [4, 2], [0]]
    assert length_batches([3, 90, 3, 3], 2, padding=False) == [[1], [0, 2], [3]]
    assert length_batches([], 4) == []
