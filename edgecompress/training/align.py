"""Which part of the student's rows stands beside which part of the teacher's.

Where both divide text into the same pieces, token stands beside token. Where a word falls into
other pieces (the vocabulary was trimmed, or is another one), the word as a whole stands beside the
word: the mean over its pieces on either side. A word that one of the two cut off or divided between
two rows is left out. Answers are read at a word's first piece, so that they always have a partner.
Of what is no text, step stands beside step.

Everything is worked out once for all rows, with arrays; a batch then only picks its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import StageError
from edgecompress.processors.text import CHUNK, TextProcessor
from edgecompress.tasks.rows import input_ids
from edgecompress.texts import words_of
from edgecompress.training.rows import TorchRows

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AlignedSpans:
    """What is compared with what, each unit a run of tokens on both sides.

    Attributes
    ----------
    row : int64 (spans,)
        The student's row, rising.
    ours, ours_count : int64 (spans,)
        First token in the student's row, and how many.
    its, its_count : int64 (spans,)
        First token among all of the teacher's rows laid end to end, and how many.
    starts : int64 (rows + 1,)
        Where the spans of each of the student's rows begin.
    """

    row: Ids
    ours: Ids
    ours_count: Ids
    its: Ids
    its_count: Ids
    starts: Ids

    def of(self, rows: Ids) -> AlignedSpans:
        """Give the spans of some rows; `row` then counts these, from 0."""
        counts = self.starts[rows + 1] - self.starts[rows]
        at = runs(self.starts[rows], counts)
        return AlignedSpans(
            np.repeat(np.arange(len(rows)), counts),
            self.ours[at],
            self.ours_count[at],
            self.its[at],
            self.its_count[at],
            np.concatenate([[0], np.cumsum(counts)]),
        )


@dataclass(frozen=True, eq=False)
class Alignment:
    """A student's rows beside a teacher's.

    Attributes
    ----------
    spans : AlignedSpans
        Whose hidden states are compared.
    answers : AlignedSpans
        Where answers are compared: the words' first pieces. A task that gives one answer a text
        has none.
    first_row, row_count : int64 (student's rows,)
        The teacher's rows whose mean answer is that of a student's row; no rows where this teacher
        was not asked.
    pooled, left_out : int
        Words that are compared as a whole, and not at all, because their pieces differ.
    """

    spans: AlignedSpans
    answers: AlignedSpans
    first_row: Ids
    row_count: Ids
    pooled: int = 0
    left_out: int = 0


def align(ours: TorchRows, its: TorchRows, asked: Ids) -> Alignment:
    """Put a student's rows beside a teacher's.

    Parameters
    ----------
    ours : TorchRows
    its : TorchRows
        The teacher's, of some of the student's examples.
    asked : numpy.ndarray
        int64 (teacher's examples,): which of the student's examples each is, rising.

    Raises
    ------
    StageError
        When rows that are no text have other lengths for the teacher.
    """
    rows = len(ours)
    first_row, row_count = _partner_rows(ours, its, asked)
    if not isinstance(ours.processor, TextProcessor):
        return _steps(ours, its, first_row, row_count)
    mine, other = _spans(ours, None), _spans(its, asked)
    answers = _joined_answers(mine, other, rows) if mine.tags else _no_spans(rows)
    spans, pooled, left_out = _joined(ours, its, mine, other, (first_row, row_count))
    return Alignment(spans, answers, first_row, row_count, pooled, left_out)


def _steps(ours: TorchRows, its: TorchRows, first_row: Ids, row_count: Ids) -> Alignment:
    """Put step beside step, in the rows that the teacher was asked about."""
    rows = np.flatnonzero(row_count)
    there = first_row[rows]
    counts = ours.lengths[rows]
    if ours.stepwise and not np.array_equal(counts, its.lengths[there]):
        raise StageError("a row has other steps for the teacher than for the student")
    begin = np.concatenate([[0], np.cumsum(its.lengths)])[:-1].astype(np.int64)
    row, at = np.repeat(rows, counts), runs(np.zeros_like(counts), counts)
    one = np.ones(len(row), dtype=np.int64)
    spans = _aligned(len(ours), row, at, one, np.repeat(begin[there], counts) + at, one)
    return Alignment(spans, spans, first_row, row_count)


def runs(starts: Ids, counts: Ids) -> Ids:
    """Write out runs of consecutive numbers: each from its start, so many.

    >>> runs(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def same_pieces(ours: TextProcessor, its: TextProcessor) -> Ids:
    """Give for each id of `ours` the id of the same piece in `its`, or -1: int64 (ids,)."""
    theirs = its.tokenizer.get_vocab(with_added_tokens=True)
    own = ours.tokenizer.get_vocab(with_added_tokens=True)
    found = np.full(max(own.values(), default=0) + 1, -1, dtype=np.int64)
    for piece, number in own.items():
        found[number] = theirs.get(piece, -1)
    return found


@dataclass(frozen=True, eq=False)
class _Spans:
    """The words of rows as runs of tokens.

    `key` is unique to an example's word and rises; `whole` says that nothing of the word is cut
    off; `flat` counts tokens over all rows laid end to end.
    """

    key: Ids
    row: Ids
    at: Ids
    flat: Ids
    count: Ids
    whole: NDArray[np.bool_]
    tags: bool


TEXTS = 1 << 24
"""More than a text of an example has words: text · TEXTS + word is unique in it."""
WORDS = 1 << 32
"""More than any example has words: example · WORDS + word is unique."""


def _spans(rows: TorchRows, asked: Ids | None) -> _Spans:
    example = rows.example if asked is None else asked[rows.example]
    lengths = rows.lengths
    begin = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    tags = not len(rows) or rows.stepwise
    prefix, suffix = len(rows.processor.prefix), len(rows.processor.suffix)
    if tags:
        words = np.array([len(one.place["positions"]) for one in rows], dtype=np.int64)
        row = np.repeat(np.arange(len(rows)), words)
        at = _flat(one.place["positions"] for one in rows)
        word = _flat(one.place["words"] for one in rows)
        # A word ends where the next one of its row begins, the last one before the suffix.
        last = np.append(row[1:] != row[:-1], True) if len(row) else np.zeros(0, bool)
        stop = np.where(last, lengths[row] - suffix, np.append(at[1:], 0)[: len(at)])
        count = stop - at
        whole = _uncut(rows, (words[row] == 1) & (count >= rows.processor.capacity), row, word)
    else:
        word, row, at, count = _text_spans(rows, lengths, prefix, suffix)
        whole = np.ones(len(word), dtype=bool)
    key = example[row] * WORDS + word
    twice = np.zeros(len(key), dtype=bool)
    twice[1:] = key[1:] == key[:-1]
    twice[:-1] |= key[1:] == key[:-1]
    return _Spans(key, row, at, begin[row] + at, count, whole & ~twice, tags)


def _uncut(rows: TorchRows, suspect: NDArray[np.bool_], row: Ids, word: Ids) -> NDArray[np.bool_]:
    """Say which words have all their pieces: only one that fills a row alone can have lost some."""
    whole = np.ones(len(suspect), dtype=bool)
    for place in np.flatnonzero(suspect).tolist():
        example = rows.examples[int(rows.example[row[place]])]
        ((pieces, _),) = rows.processor.encode_words([[words_of(example)[int(word[place])]]])
        whole[place] = len(pieces) <= rows.processor.capacity
    return whole


def _text_spans(
    rows: TorchRows, lengths: Ids, prefix: int, suffix: int
) -> tuple[Ids, Ids, Ids, Ids]:
    """Find the words of running text: (word, row, first token, count) of each part in a row."""
    texts = [rows.task.texts(example, rows.processor) for example in rows.examples]
    place = [at for each in texts for at in range(len(each))]
    pieces = _words_of_pieces(rows, [text for each in texts for text in each])
    inside = np.maximum(lengths - prefix - suffix, 0)
    if len(pieces) == len(lengths):  # a row for each text, which may be cut off
        expected = inside.astype(np.int64)
        parts = zip(pieces, place, expected, strict=True)
        pieces = [np.where(w < 0, -1, w + at * TEXTS)[:count] for w, at, count in parts]
    else:
        expected = np.bincount(rows.example, inside, minlength=len(pieces)).astype(np.int64)
    # A row that only holds something so as not to be empty has no word.
    known = [
        words if len(words) == count else np.full(count, -1)
        for words, count in zip(pieces, expected.tolist(), strict=True)
    ]
    row = np.repeat(np.arange(len(lengths)), inside)
    at = runs(np.full(len(lengths), prefix), inside)
    word = _flat(known)
    new = np.ones(len(word), dtype=bool)
    new[1:] = (word[1:] != word[:-1]) | (row[1:] != row[:-1])
    begin = np.flatnonzero(new)
    count = np.diff(np.append(begin, len(word)))
    real = word[begin] >= 0
    return word[begin][real], row[begin][real], at[begin][real], count[real]


def _words_of_pieces(rows: TorchRows, texts: Sequence[str]) -> list[Ids]:
    """Tell for each text which blank-separated word each of its pieces ends in."""
    encodings = (
        encoding
        for start in range(0, len(texts), CHUNK)
        for encoding in rows.processor.tokenizer.encode_batch(
            texts[start : start + CHUNK], add_special_tokens=False
        )
    )
    return [_words_by_offsets(text, e.offsets) for text, e in zip(texts, encodings, strict=True)]


def _words_by_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> Ids:
    """Find the word of each piece by its last character: int64 (pieces,), -1 where it has none.

    By the last one, because SentencePiece's pieces begin with the blank before a word; a blank that
    is a piece of its own belongs to the word behind it.
    """
    if not text:
        return np.full(len(offsets), -1, dtype=np.int64)
    blank = np.array([character.isspace() for character in text], dtype=bool)
    begins = ~blank & np.append(True, blank[:-1])
    word = np.cumsum(begins) - ~blank
    ends = np.array([stop - 1 for _, stop in offsets], dtype=np.int64)
    inside = (ends >= 0) & (ends < len(text))
    return np.where(inside, word[np.clip(ends, 0, len(text) - 1)], -1)


def _joined_answers(ours: _Spans, its: _Spans, rows: int) -> AlignedSpans:
    _, a, b = np.intersect1d(ours.key, its.key, assume_unique=True, return_indices=True)
    one = np.ones(len(a), dtype=np.int64)
    return _aligned(rows, ours.row[a], ours.at[a], one, its.flat[b], one)


def _joined(
    ours: TorchRows, its: TorchRows, mine: _Spans, other: _Spans, partners: tuple[Ids, Ids]
) -> tuple[AlignedSpans, int, int]:
    left, right = np.flatnonzero(mine.whole), np.flatnonzero(other.whole)
    _, a, b = np.intersect1d(
        mine.key[left], other.key[right], assume_unique=True, return_indices=True
    )
    a, b = left[a], right[b]
    count, its_count = mine.count[a], other.count[b]
    same = _identical(ours, its, (mine.flat[a], count), (other.flat[b], its_count))
    # Words of equal pieces are compared piece by piece, others as a whole.
    each = np.where(same, count, 1)
    step = np.where(same, 1, 0)
    inner = runs(np.zeros_like(each), each)
    parts = [
        (
            np.repeat(mine.row[a], each),
            np.repeat(mine.at[a], each) + inner,
            np.repeat(np.where(step, 1, count), each),
            np.repeat(other.flat[b], each) + inner,
            np.repeat(np.where(step, 1, its_count), each),
        ),
        *_specials(ours, its, mine, other, partners),
    ]
    joined = [np.concatenate([part[i] for part in parts]) for i in range(5)]
    # Counted against what the student knows of the examples that this teacher was asked.
    known = int((partners[1][mine.row] > 0).sum()) if len(mine.row) else 0
    spans = _aligned(len(ours), *joined)
    return spans, int((~same).sum()), known - len(a)


def _identical(
    ours: TorchRows, its: TorchRows, mine: tuple[Ids, Ids], other: tuple[Ids, Ids]
) -> NDArray[np.bool_]:
    """Say which words have the same pieces on both sides, each given as (first token, count)."""
    found = np.asarray(mine[1] == other[1])
    if ours.processor.digest == its.processor.digest:
        return found
    words = np.flatnonzero(found)
    if not len(words):
        return found
    counts = mine[1][words]
    table = same_pieces(ours.processor, its.processor)
    our_ids = _flat(input_ids(ours))[runs(mine[0][words], counts)]
    its_ids = _flat(input_ids(its))[runs(other[0][words], counts)]
    equal = table[our_ids] == its_ids
    begin = np.cumsum(counts) - counts
    found[words] = np.logical_and.reduceat(equal, begin)
    return found


def _specials(
    ours: TorchRows, its: TorchRows, mine: _Spans, other: _Spans, partners: tuple[Ids, Ids]
) -> list[tuple[Ids, Ids, Ids, Ids, Ids]]:
    """Pair the special tokens of rows that hold the same words."""
    first, count = partners
    rows = np.flatnonzero(count == 1)
    begin, end = _edges(mine, len(ours))
    its_begin, its_end = _edges(other, len(its))
    there = first[rows]
    rows = rows[(begin[rows] == its_begin[there]) & (end[rows] == its_end[there])]
    there = first[rows]
    lengths, its_lengths = ours.lengths, its.lengths
    its_start = np.concatenate([[0], np.cumsum(its_lengths)])[:-1]
    parts = []
    pairs = (
        (len(ours.processor.prefix), len(its.processor.prefix), False),
        (len(ours.processor.suffix), len(its.processor.suffix), True),
    )
    for number, its_number, at_end in pairs:
        if number != its_number:
            continue
        for index in range(number):
            here = lengths[rows] - number + index if at_end else np.full(len(rows), index)
            its_at = its_lengths[there] - number + index if at_end else np.full(len(rows), index)
            one = np.ones(len(rows), dtype=np.int64)
            parts.append((rows, here, one, its_start[there] + its_at, one))
    return parts


def _edges(spans: _Spans, rows: int) -> tuple[Ids, Ids]:
    """Give the keys of each row's first and last word, or -1."""
    begin, end = np.full(rows, -1, dtype=np.int64), np.full(rows, -1, dtype=np.int64)
    begin[spans.row[::-1]] = spans.key[::-1]
    end[spans.row] = spans.key
    return begin, end


def _partner_rows(ours: TorchRows, its: TorchRows, asked: Ids) -> tuple[Ids, Ids]:
    """Give the teacher's rows (first, count) that stand beside each of the student's rows.

    Row beside row where an example has as many on both sides; else all of the example's.
    """
    examples = len(ours.examples)
    mine = np.bincount(ours.example, minlength=examples)
    owner = asked[its.example]
    other = np.bincount(owner, minlength=examples)
    first = np.cumsum(other) - other
    example = ours.example
    ordinal = np.arange(len(example)) - (np.cumsum(mine) - mine)[example]
    alike = (mine == other)[example]
    return (
        np.where(alike, first[example] + ordinal, first[example]),
        np.where(alike, 1, other[example]),
    )


def _aligned(
    rows: int, row: Ids, ours: Ids, ours_count: Ids, its: Ids, its_count: Ids
) -> AlignedSpans:
    order = np.lexsort((ours, row))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
    return AlignedSpans(
        row[order], ours[order], ours_count[order], its[order], its_count[order], starts
    )


def _no_spans(rows: int) -> AlignedSpans:
    none = np.zeros(0, dtype=np.int64)
    return AlignedSpans(none, none, none, none, none, np.zeros(rows + 1, dtype=np.int64))


def _flat(arrays: Any) -> Ids:
    parts = list(arrays)
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
