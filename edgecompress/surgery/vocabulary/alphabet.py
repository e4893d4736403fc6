"""What a vocabulary must keep so that any text can still be split: characters, bytes, specials.

Single characters are the smallest pieces: with all of them, every text that the original could
split falls into known pieces, if into more of them. A vocabulary for many languages has thousands
(492 Chinese, Japanese and Korean ideographs in BERT's English one alone), so that they may be
limited to the scripts, or the characters, that a corpus uses; other scripts then become unknown.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from edgecompress.surgery.vocabulary.pieces import BYTE, Vocabulary, with_ancestors

Alphabet = Literal["all", "scripts", "corpus"]
COMMON = "COMMON"
LEAST_SHARE = 1e-3
"""A script counts as used when it makes up this share of the corpus' letters: a word quoted from
another language does not bring its thousands of characters with it."""
SPACE = "▁"


@functools.cache
def script(character: str) -> str:
    """Give the script of a letter or mark, as the first word of its Unicode name says it.

    ``COMMON`` for digits, punctuation, symbols and accents that all scripts share. Width and other
    forms do not count (``Ａ`` is LATIN).

    >>> script("ж"), script("中"), script("7"), script("ሰ")
    ('CYRILLIC', 'CJK', 'COMMON', 'ETHIOPIC')
    """
    plain = unicodedata.normalize("NFKC", character)[:1] or character
    if unicodedata.category(plain)[0] not in "LM":
        return COMMON
    first = unicodedata.name(plain, COMMON).split()[0]
    return COMMON if first in ("COMBINING", "MODIFIER", "VARIATION") else first


def scripts_used(vocabulary: Vocabulary, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Name the scripts in which the pieces that a corpus gave are written, most used first.

    Parameters
    ----------
    counts : mapping of str to int
        How often the corpus gives each piece.
    """
    letters: Counter[str] = Counter()
    for piece, count in counts.items():
        if count and piece not in vocabulary.added:
            for character in _letters(vocabulary, piece):
                letters[script(character)] += count
    letters.pop(COMMON, None)
    whole = letters.total()
    return tuple(name for name, count in letters.most_common() if count >= LEAST_SHARE * whole)


def needed(
    vocabulary: Vocabulary,
    counts: Mapping[str, int],
    alphabet: Alphabet,
    also: Iterable[str] = (),
) -> dict[str, set[str]]:
    """Find the pieces that must stay, by the reason why.

    Parameters
    ----------
    vocabulary : Vocabulary
    counts : mapping of str to int
        How often the corpus gives each piece.
    alphabet : str
        ``all``: every character; ``scripts``: those of scripts that the corpus uses; ``corpus``:
        those that it uses. Digits and punctuation stay but for ``corpus``.
    also : iterable of str
        Pieces that the model's configuration names.

    Returns
    -------
    dict of str to set of str
        ``special``; ``bytes``; ``characters``; ``indivisible``: pieces with a character that the
        vocabulary does not have alone in that place, so that they fall into nothing known.
    """
    special = {*vocabulary.added, *also}
    if vocabulary.unknown is not None:
        special.add(vocabulary.unknown)
    if vocabulary.scores:
        # Unigram's price of an unknown character is its lowest score less 10: that must not change.
        special.add(min(vocabulary.scores, key=lambda piece: (vocabulary.scores[piece], piece)))
    ordinary = vocabulary.ids.keys() - special
    found: dict[str, set[str]] = {"special": special}
    found["bytes"] = {p for p in ordinary if vocabulary.byte_fallback and BYTE.fullmatch(p)}
    wanted = _wanted(vocabulary, counts, alphabet)
    occurs = _occurs(vocabulary)
    found["characters"] = {
        piece
        for piece in ordinary - found["bytes"]
        if len(vocabulary.bare(piece)) == 1
        and wanted(vocabulary.bare(piece))
        and (counts.get(piece) or occurs(piece))
    }
    single = {p for p in vocabulary.ids if len(vocabulary.bare(p)) == 1}
    found["indivisible"] = {
        piece
        for piece in ordinary - found["bytes"] - found["characters"]
        if len(vocabulary.bare(piece)) > 1
        and any(symbol not in single for symbol in vocabulary.symbols(piece))
        and all(wanted(character) for character in vocabulary.bare(piece))
        and not _placeholder(piece)
        # What falls into bytes is not lost, and BPE cannot reach a piece past a missing symbol.
        and not vocabulary.byte_fallback
        and vocabulary.kind != "BPE"
    }
    return found


def minimum(vocabulary: Vocabulary, reasons: Mapping[str, set[str]]) -> set[str]:
    """Join what must stay for any reason, with what it is merged from."""
    return with_ancestors(vocabulary, set().union(*reasons.values()))


def _wanted(
    vocabulary: Vocabulary, counts: Mapping[str, int], alphabet: Alphabet
) -> Callable[[str], bool]:
    """Give the function that says whether a character belongs to the alphabet."""
    if alphabet == "all" or vocabulary.byte_level:
        return lambda _: True
    seen = {SPACE}
    for piece, count in counts.items():
        if count:
            seen.update(vocabulary.bare(piece))
    if alphabet == "corpus":
        return lambda character: character in seen
    used = {COMMON, *scripts_used(vocabulary, counts)}
    return lambda character: character in seen or script(character) in used


def _letters(vocabulary: Vocabulary, piece: str) -> str:
    """Give the text of a piece; of bytes, what they mean where they are whole characters."""
    bare = vocabulary.bare(piece)
    if not vocabulary.byte_level:
        return "" if BYTE.fullmatch(piece) else bare
    table = byte_symbols()
    known = bytes(table[symbol] for symbol in bare if symbol in table)
    return known.decode("utf-8", errors="ignore")


@functools.cache
def byte_symbols() -> dict[str, int]:
    """Map the 256 symbols of byte-level BPE to their bytes.

    Source: ``bytes_to_unicode`` of GPT-2: printable Latin-1 stands for itself, the others for
    characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def _placeholder(piece: str) -> bool:
    from edgecompress.surgery.vocabulary.pieces import PLACEHOLDER

    return PLACEHOLDER.fullmatch(piece) is not None


def _occurs(vocabulary: Vocabulary) -> Callable[[str], bool]:
    """Give the function that says whether any text can give a single character in its place.

    A WordPiece vocabulary has ``##。`` beside ``。``, but a pre-tokenizer that sets punctuation
    apart never asks for it inside a word. Other kinds do not mark places: all may occur.
    """
    from tokenizers import Tokenizer

    if vocabulary.kind != "WordPiece":
        return lambda _: True
    tokenizer: Any = Tokenizer.from_str(_without_vocabulary(vocabulary))

    def words(text: str) -> list[str]:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        if tokenizer.pre_tokenizer is None:
            return [normal]
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def occurs(piece: str) -> bool:
        character = vocabulary.bare(piece)
        if piece == character:  # at a word's beginning
            behind = [character, f"{character}a", f"{character}."]
            return any(word.startswith(character) for text in behind for word in words(text))
        inside = [before + character for before in ("a", "1", ".", "ー", character)]
        return any(character in word[1:] for text in inside for word in words(text))

    return occurs


def _without_vocabulary(vocabulary: Vocabulary) -> str:
    """Give the tokenizer's JSON with an empty model: it opens at once."""
    import json

    model = {**vocabulary.document["model"], "vocab": {vocabulary.unknown or "[UNK]": 0}}
    return json.dumps({**vocabulary.document, "model": model, "added_tokens": []})
