"""What must hold of a trimmed vocabulary, and of the corpus that it is cut to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.vocabulary.alphabet import COMMON, byte_symbols, script
from edgecompress.surgery.vocabulary.pieces import BYTE, Vocabulary
from edgecompress.surgery.vocabulary.splitting import Compared, Split, compare
from edgecompress.texts import texts_of, words_of
from edgecompress.values import Example

MOST_UNKNOWN = 0.5
"""A corpus of which more than this share is unknown says nothing of which pieces are needed."""
BLANKS = ("▁", "Ġ")
"""Pieces for a blank alone, which every language has."""
LOOKED_AT = 2000
"""Texts by which the script of a corpus is named."""


def check_readable(
    vocabulary: Vocabulary, counts: Mapping[str, int], texts: Sequence[Example]
) -> None:
    """Refuse a corpus that the vocabulary cannot read.

    Parameters
    ----------
    vocabulary : Vocabulary
    counts : mapping of str to int
        How often the corpus gives each piece.
    texts : sequence of Example
        The corpus; names its script in the error.

    Raises
    ------
    DataError
        When it gives no piece, or when most of its pieces are unknown or single bytes.
    """
    total = sum(count for piece, count in counts.items() if piece not in BLANKS)
    if not total:
        raise DataError(
            "the corpus gives no piece at all: it holds no text that is more than blanks"
        )
    lost = sum(count for piece, count in counts.items() if _lost(vocabulary, piece))
    if lost > MOST_UNKNOWN * total:
        theirs = _main_script(text for example in texts[:LOOKED_AT]
                              for text in (*words_of(example), *texts_of(example)))  # fmt: skip
        ours = _main_script(vocabulary.bare(piece) for piece in vocabulary.ids)
        raise DataError(
            f"{lost / total:.0%} of the corpus' pieces are unknown to this vocabulary: the corpus "
            f"is written in {theirs} and the vocabulary mostly in {ours}; take a corpus in the "
            "model's languages, or a model that knows this script"
        )


def _lost(vocabulary: Vocabulary, piece: str) -> bool:
    """Whether a piece stands for something that the vocabulary has no piece for."""
    if piece == vocabulary.unknown or (vocabulary.byte_fallback and BYTE.fullmatch(piece)):
        return True
    return vocabulary.byte_level and byte_symbols().get(piece, 0) >= 0x80


def _main_script(texts: Any) -> str:
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(map(script, text))
    letters.pop(COMMON, None)
    return letters.most_common(1)[0][0] if letters else "no letters"


def old_to_new(vocabulary: Vocabulary, ids: Mapping[str, int]) -> NDArray[np.int64]:
    """Give the new id of each old one, -1 where it was dropped: int64 (places,)."""
    found = np.full(vocabulary.places, -1, np.int64)
    for number, piece in vocabulary.names.items():
        found[number] = ids.get(piece, -1)
    return found


def unknown_ids(vocabulary: Vocabulary, ids: Mapping[str, int]) -> tuple[int, int]:
    """Give the id of the unknown piece before and after, -1 where there is none."""
    if vocabulary.unknown is None:
        return -1, -1
    return {**vocabulary.ids, **vocabulary.added}[vocabulary.unknown], ids[vocabulary.unknown]


def prove(vocabulary: Vocabulary, ids: Mapping[str, int], before: Split, after: Split) -> Compared:
    """Prove that the trimmed tokenizer splits as the original wherever it can.

    Parameters
    ----------
    vocabulary : Vocabulary
        The original's.
    ids : mapping of str to int
        The kept pieces and their new ids.
    before, after : Split
        The same texts, by the original and by the trimmed tokenizer.

    Raises
    ------
    StageError
        When a text all of whose pieces are kept is split otherwise.
    """
    found = compare(before, after, old_to_new(vocabulary, ids), unknown_ids(vocabulary, ids))
    if found.unequal:
        raise StageError(
            f"the trimmed tokenizer splits {found.unequal} of {found.texts} texts otherwise than "
            "the original although all their pieces are kept; keep more pieces, and report it with "
            "the model's name"
        )
    return found
