"""A tokenizer's pieces as data: WordPiece, BPE and Unigram, read from ``tokenizer.json``.

Source: the JSON form of the `tokenizers` library (models ``WordPiece``, ``BPE``, ``Unigram``).
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError
from edgecompress.values import Json

KINDS = ("WordPiece", "BPE", "Unigram")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""Pieces that stand for one byte, of models with ``byte_fallback``."""
PLACEHOLDER = re.compile(
    r"[\[<]?(unused|madeupword|reserved|extra_id)[-_]?\d+[\]>]?", re.IGNORECASE
)
"""Places that were left free when the vocabulary was made; no text gives them."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The pieces of a tokenizer.

    Attributes
    ----------
    document : dict
        ``tokenizer.json`` as it was read; never changed.
    kind : str
        One of `KINDS`.
    ids : dict of str to int
        Every piece that the model knows, special ones included, and its id.
    added : dict of str to int
        Special and added tokens; some may stand in no model but behind it.
    scores : dict of str to float
        Log-probabilities of Unigram pieces; empty for other kinds.
    unknown : str or None
        The piece that stands for what cannot be split.
    prefix, suffix : str
        What marks a piece inside a word (``##``), and one at a word's end (``</w>``).
    byte_level : bool
        Whether text is turned into 256 symbols for bytes first.
    byte_fallback : bool
        Whether unknown characters become pieces for their bytes (``<0x41>``).
    """

    document: Json
    kind: str
    ids: dict[str, int]
    added: dict[str, int]
    scores: dict[str, float]
    unknown: str | None
    prefix: str
    suffix: str
    byte_level: bool
    byte_fallback: bool

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """Pieces by id, all of them."""
        return {number: piece for piece, number in {**self.ids, **self.added}.items()}

    @property
    def places(self) -> int:
        """One more than the largest id."""
        return max(self.names) + 1

    def bare(self, piece: str) -> str:
        """Give a piece without the marks of its place in a word."""
        if self.prefix and piece.startswith(self.prefix) and len(piece) > len(self.prefix):
            piece = piece[len(self.prefix) :]
        if self.suffix and piece.endswith(self.suffix) and len(piece) > len(self.suffix):
            piece = piece[: -len(self.suffix)]
        return piece

    def symbols(self, piece: str) -> list[str]:
        """Split a piece into single characters, each with the marks of its place."""
        inside = self.prefix if piece.startswith(self.prefix) else ""
        bare = self.bare(piece)
        last = self.suffix if bare != piece and piece.endswith(self.suffix) else ""
        marks = [inside, *[self.prefix] * (len(bare) - 1)]
        found = [mark + character for mark, character in zip(marks, bare, strict=True)]
        return [*found[:-1], found[-1] + last]

    @functools.cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The merges of a BPE model, first ones first; none for other kinds."""
        return [
            (one[0], one[1]) if isinstance(one, list) else _pair(one)
            for one in self.document["model"].get("merges", ())
        ]

    def merged(self, first: str, second: str) -> str:
        """Give the piece that a merge makes."""
        inner = self.prefix and second.startswith(self.prefix)
        return first + (second[len(self.prefix) :] if inner else second)


def _pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(" ")
    return first, second


def read_vocabulary(file: Path) -> Vocabulary:
    """Read a ``tokenizer.json``.

    Raises
    ------
    DataError
        When it is missing or damaged, or of a kind that cannot be trimmed.
    """
    from tokenizers import Tokenizer

    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text)
        tokenizer = Tokenizer.from_str(text)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None
    except Exception as error:  # noqa: BLE001 - tokenizers raises the bare class
        raise DataError(f"not a tokenizer that can be read ({error})", file=file) from None
    model = document["model"]
    # Files of old versions do not name the model; the library knows what it read.
    kind = type(tokenizer.model).__name__
    if kind not in KINDS:
        raise DataError(
            f"a {kind} vocabulary cannot be trimmed: its words do not fall into smaller pieces; "
            f"only {', '.join(KINDS)} can",
            file=file,
        )
    ids = tokenizer.get_vocab(with_added_tokens=False)
    everything = tokenizer.get_vocab(with_added_tokens=True)
    added = {one["content"]: everything[one["content"]] for one in document["added_tokens"]}
    unknown = model.get("unk_token")
    scores: dict[str, float] = {}
    if kind == "Unigram":
        scores = {str(piece): float(score) for piece, score in model["vocab"]}
        unknown = None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
    return Vocabulary(
        document=document,
        kind=kind,
        ids=ids,
        added=added,
        scores=scores,
        unknown=unknown,
        prefix=model.get("continuing_subword_prefix") or "",
        suffix=model.get("end_of_word_suffix") or "",
        byte_level=_uses(document, "ByteLevel"),
        byte_fallback=bool(model.get("byte_fallback")),
    )


def _uses(document: Json, kind: str) -> bool:
    """Whether a normalizer or pre-tokenizer of the type `kind` turns text into symbols."""
    waiting: list[Any] = [document.get("normalizer"), document.get("pre_tokenizer")]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("type") == kind:
                return True
            waiting += [*one.get("normalizers", ()), *one.get("pretokenizers", ())]
    return False


def ancestors(vocabulary: Vocabulary) -> Callable[[str], frozenset[str]]:
    """Give the function from a BPE piece to the pieces that it is merged from.

    Byte-pair encoding reaches a piece through others: a piece is of use only with these. Within a
    text, merges inside a piece's letters happen in the order in which they do for the piece alone
    (one that crosses its edges would have kept it from arising), so that it is enough to replay
    them for the piece alone. Source: Sennrich et al., 2016, as `tokenizers` implements it: of all
    neighbours the merge that was learnt first, and of these the leftmost.

    Returns
    -------
    callable
        The pieces between single symbols and the piece, itself left out; none where the merges do
        not lead to it, and none for kinds that do not merge.
    """
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(vocabulary.merges)))}

    @functools.cache
    def between(piece: str) -> frozenset[str]:
        if not ranks:
            return frozenset()
        symbols = vocabulary.symbols(piece)
        found = set(symbols)
        while len(symbols) > 1:
            pairs = list(itertools.pairwise(symbols))
            best = min(range(len(pairs)), key=lambda at: ranks.get(pairs[at], len(ranks)))
            if pairs[best] not in ranks:
                return frozenset()
            symbols[best : best + 2] = [vocabulary.merged(*pairs[best])]
            found.add(symbols[best])
        return frozenset(found & vocabulary.ids.keys()) - {piece}

    return between


def begins_word(vocabulary: Vocabulary, piece: str) -> bool:
    """Whether a piece stands at a word's beginning, as its marks say."""
    if vocabulary.prefix:
        return not piece.startswith(vocabulary.prefix)
    return piece.startswith("Ġ" if vocabulary.byte_level else "▁")


def with_ancestors(vocabulary: Vocabulary, pieces: Iterable[str]) -> set[str]:
    """Give pieces together with all that they are merged from."""
    between = ancestors(vocabulary)
    found = set(pieces)
    for piece in tuple(found):
        found |= between(piece)
    return found
