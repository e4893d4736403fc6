"""How a tokenizer splits texts, and where another one splits them otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.texts import running_text, words_of
from edgecompress.values import Example, Json

CHUNK = 1024
"""Texts per call of the tokenizer: bounds the memory that its Encoding objects take."""
Ids = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Split:
    """Texts as pieces, one behind the other.

    Attributes
    ----------
    ids : int32 (pieces,)
    word : int32 (pieces,)
        Which word of all the texts' words each piece begins in.
    start : int64 (texts + 1,)
        Where each text's pieces begin; the last entry is their number.
    words : int
        How many words there are, also those without a piece.
    """

    ids: Ids
    word: Ids
    start: NDArray[np.int64]
    words: int


def split(tokenizer: Any, examples: Sequence[Example]) -> Split:
    """Split examples as the model's input is, without special tokens.

    Words of an example with `words` are those; of a running text, what blanks set apart.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Without truncation and padding.
    examples : sequence of Example

    Raises
    ------
    DataError
        When a text is not valid Unicode.
    """
    ids: list[Ids] = []
    word: list[Ids] = []
    start = [0]
    words = 0
    for found, places, count in _encoded(tokenizer, examples):
        ids.append(found)
        word.append(places + words)
        start.append(start[-1] + len(found))
        words += count
    nothing = np.zeros(0, np.int32)
    return Split(
        np.concatenate([nothing, *ids]),
        np.concatenate([nothing, *word]),
        np.array(start, np.int64),
        words,
    )


def counts_by_group(
    found: Split, names: Mapping[int, str], groups: Sequence[int]
) -> list[dict[str, int]]:
    """Count the pieces of texts that follow each other in groups.

    Parameters
    ----------
    found : Split
    names : mapping of int to str
        Pieces by id.
    groups : sequence of int
        How many texts each group has, in order.
    """
    result = []
    first = 0
    for count in groups:
        ids = found.ids[found.start[first] : found.start[first + count]]
        numbers, times = np.unique(ids, return_counts=True)
        result.append({names[n]: t for n, t in zip(numbers.tolist(), times.tolist(), strict=True)})
        first += count
    return result


def _encoded(tokenizer: Any, examples: Iterable[Example]) -> Iterator[tuple[Ids, Ids, int]]:
    """Give each example's ids, the words that they begin in, and how many words it has."""
    waiting = iter(examples)
    while chunk := list(islice(waiting, CHUNK)):
        # A call takes either kind; the order of the examples is kept.
        found: dict[int, Any] = {}
        for pretokenized in (True, False):
            numbers = [n for n, e in enumerate(chunk) if bool(words_of(e)) == pretokenized]
            texts = [
                list(words_of(chunk[n])) if pretokenized else running_text(chunk[n])
                for n in numbers
            ]
            try:
                encodings = tokenizer.encode_batch(
                    texts, is_pretokenized=pretokenized, add_special_tokens=False
                )
            except (TypeError, UnicodeError):
                raise DataError(
                    "a text holds characters that are not valid Unicode (lone surrogates); "
                    "read it as UTF-8"
                ) from None
            found.update(zip(numbers, encodings, strict=True))
        for number, example in enumerate(chunk):
            encoding = found[number]
            ids = np.array(encoding.ids, np.int32)
            if words_of(example):
                yield ids, np.array(encoding.word_ids, np.int32), len(words_of(example))
            else:
                yield ids, *_words_of_text(running_text(example), encoding.offsets)


def _words_of_text(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[Ids, int]:
    """Find the word, set apart by blanks, in which each piece of a running text begins."""
    blank = np.array([*(character.isspace() for character in text), True])
    first = ~blank[:-1] & np.array([True, *blank[:-2]], bool)[: len(text)]
    number = np.maximum(np.cumsum(first) - 1, 0).astype(np.int32)
    # A piece may begin with the blanks before its word.
    ends = np.array([max(end - 1, 0) for _, end in offsets], np.int64)
    begins = np.array([begin for begin, _ in offsets], np.int64)
    places = np.minimum(begins, max(len(text) - 1, 0))
    while bool((moving := blank[places] & (places < ends)).any()):
        places = places + moving
    return (number[places] if len(text) else np.zeros(len(offsets), np.int32)), int(first.sum())


@dataclass(frozen=True, slots=True)
class Compared:
    """How two tokenizers split the same texts.

    Attributes
    ----------
    texts, words : int
        How many there are.
    pieces : tuple of int
        Pieces before and after.
    unknown : tuple of int
        Of these, unknown ones.
    dropped : int
        Pieces before that are no longer there.
    other_texts, other_words : int
        How many are split otherwise.
    unequal : int
        Texts that are split otherwise although all their pieces are still there. None, or the
        trimmed tokenizer is wrong.
    """

    texts: int
    words: int
    pieces: tuple[int, int]
    unknown: tuple[int, int]
    dropped: int
    other_texts: int
    other_words: int
    unequal: int

    def as_json(self) -> Json:
        """Give the figures as shares, rounded."""
        return {
            "texts": self.texts,
            "words": self.words,
            "pieces_per_word": [_share(n, self.words) for n in self.pieces],
            "unknown": [_share(*pair) for pair in zip(self.unknown, self.pieces, strict=True)],
            "pieces_dropped": _share(self.dropped, self.pieces[0]),
            "words_split_otherwise": _share(self.other_words, self.words),
            "texts_split_otherwise": _share(self.other_texts, self.texts),
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def compare(
    before: Split, after: Split, new_ids: NDArray[np.int64], unknown: tuple[int, int]
) -> Compared:
    """Compare two splits of the same examples, piece by piece.

    Parameters
    ----------
    before, after : Split
    new_ids : int64 (places before,)
        The id after of each id before; -1 where it was dropped.
    unknown : tuple of int
        Id of the unknown piece before and after; -1 where there is none.
    """
    expected = new_ids[before.ids]
    changed = np.zeros(before.words, bool)
    other = unequal = 0
    for number in range(len(before.start) - 1):
        old = slice(int(before.start[number]), int(before.start[number + 1]))
        new = slice(int(after.start[number]), int(after.start[number + 1]))
        if np.array_equal(expected[old], after.ids[new]):
            continue
        other += 1
        unequal += bool((expected[old] >= 0).all())
        theirs, ours = (
            _by_word(expected[old], before.word[old]),
            _by_word(after.ids[new], after.word[new]),
        )
        for word in theirs.keys() | ours.keys():
            changed[word] = theirs.get(word) != ours.get(word)
    return Compared(
        texts=len(before.start) - 1,
        words=before.words,
        pieces=(len(before.ids), len(after.ids)),
        unknown=(int((before.ids == unknown[0]).sum()), int((after.ids == unknown[1]).sum())),
        dropped=int((expected < 0).sum()),
        other_texts=other,
        other_words=int(changed.sum()),
        unequal=unequal,
    )


def _by_word(ids: NDArray[Any], word: Ids) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, piece in zip(word.tolist(), ids.tolist(), strict=True):
        found.setdefault(place, []).append(piece)
    return found
