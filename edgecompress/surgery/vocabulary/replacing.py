"""Other pieces for a tokenizer: learnt from a corpus, of the same kind and around the same text.

What a tokenizer does before it divides words (normalizer, pre-tokenizer) and after it (special
tokens around a text) stays; its pieces are learnt anew by the trainers of the `tokenizers` library.
A new piece's row is made of the old rows that stood for the same letters in the corpus, each by the
share of the letters that it covers. A piece that both have keeps its row. Source: Gee et al., 2022,
"Fast vocabulary transfer for language model compression", who divide each piece by itself; the
corpus shows how the old tokenizer divides it inside words.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import StageError
from edgecompress.surgery.vocabulary.files import renumber
from edgecompress.surgery.vocabulary.pieces import BYTE, Vocabulary
from edgecompress.surgery.vocabulary.splitting import CHUNK, Split
from edgecompress.texts import running_text, words_of
from edgecompress.values import Example, Json

WORD = 1 << 20
"""Letters between the beginnings of two words of an example: more than any word has."""


def learnt(
    vocabulary: Vocabulary,
    texts: Sequence[str],
    pieces: int,
    special: Iterable[str],
    letters: Iterable[str],
) -> Json:
    """Learn pieces from texts.

    Parameters
    ----------
    vocabulary : Vocabulary
        The old one: gives the kind and all that stands around the pieces.
    texts : sequence of str
    pieces : int
        How many at most, special tokens included.
    special : iterable of str
        Tokens that keep their meaning; those that the old model knows come first, in its order.
    letters : iterable of str
        Old pieces that must stay: single characters and bytes.

    Returns
    -------
    dict
        ``pieces`` in the order of their ids; ``merges`` of BPE, ``scores`` of Unigram.

    Raises
    ------
    StageError
        When `pieces` has no room for what must stay.
    """
    from tokenizers import Tokenizer, pre_tokenizers, trainers

    first = sorted({*special} & vocabulary.ids.keys(), key=vocabulary.ids.__getitem__)
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary.document))
    stay = sorted(set(letters) - set(first))
    single = sorted({vocabulary.bare(piece) for piece in stay if not BYTE.fullmatch(piece)})
    behind = len(vocabulary.added.keys() - vocabulary.ids.keys())
    common: Json = {"vocab_size": pieces - behind, "show_progress": False}
    trainer: Any
    if vocabulary.kind == "WordPiece":
        # The trainer meets inner letters in the random order of a hash map, and breaks ties by it.
        # Named beforehand they have fixed ids; same texts, same pieces.
        normalizer = tokenizer.normalizer
        seen = set(
            "".join(normalizer.normalize_str(text) if normalizer else text for text in texts)
        )
        inner = {f"{vocabulary.prefix}{letter}" for letter in seen if not letter.isspace()}
        stay = sorted({*stay, *inner})
        trainer = trainers.WordPieceTrainer(
            special_tokens=[*first, *stay],
            continuing_subword_prefix=vocabulary.prefix,
            initial_alphabet=single,
            **common,
        )
    elif vocabulary.kind == "BPE":
        if vocabulary.prefix:
            common["continuing_subword_prefix"] = vocabulary.prefix
        if vocabulary.suffix:
            common["end_of_word_suffix"] = vocabulary.suffix
        trainer = trainers.BpeTrainer(
            special_tokens=[*first, *(one for one in stay if BYTE.fullmatch(one))],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
            if vocabulary.byte_level
            else single,
            **common,
        )
    else:
        trainer = trainers.UnigramTrainer(
            special_tokens=[*first, *(one for one in stay if BYTE.fullmatch(one))],
            unk_token=vocabulary.unknown,
            initial_alphabet=single,
            **common,
        )
    if (least := len(first) + len(stay) + behind) >= pieces:
        raise StageError(
            f"pieces is {pieces}, but {least} special tokens and single characters must stay; give "
            "more pieces, or a smaller alphabet (scripts, corpus)"
        )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    scores = dict(model["vocab"]) if vocabulary.kind == "Unigram" else {}
    known = scores or model["vocab"]
    ordered = list(known) if scores else sorted(known, key=known.__getitem__)
    special = {*first}
    found: Json = {"pieces": [*first, *(one for one in ordered if one not in special)]}
    if vocabulary.kind == "BPE":
        found["merges"] = [
            one if isinstance(one, list) else one.split(" ") for one in model["merges"]
        ]
    if scores:
        found["scores"] = [vocabulary.scores.get(one, 0.0) if one in first else scores[one]
                           for one in found["pieces"]]  # fmt: skip
    return found


def ids_of(vocabulary: Vocabulary, record: Json) -> dict[str, int]:
    """Give ids to the new pieces, and behind them to the tokens that stood behind the old model."""
    behind = sorted(set(vocabulary.added) - vocabulary.ids.keys(), key=vocabulary.added.__getitem__)
    return {piece: number for number, piece in enumerate((*record["pieces"], *behind))}


def replaced_document(vocabulary: Vocabulary, record: Json) -> Json:
    """Give ``tokenizer.json`` with the pieces of a record of `learnt`."""
    document = copy.deepcopy(vocabulary.document)
    model, ids = document["model"], ids_of(vocabulary, record)
    if vocabulary.kind == "Unigram":
        model["vocab"] = [list(one) for one in zip(record["pieces"], record["scores"], strict=True)]
        if vocabulary.unknown is not None:
            model["unk_id"] = ids[vocabulary.unknown]
    else:
        model["vocab"] = {piece: ids[piece] for piece in record["pieces"]}
    if "merges" in record:
        model["merges"] = record["merges"]
    renumber(document, ids)
    return document


def mixture(
    vocabulary: Vocabulary,
    ids: Mapping[str, int],
    tokenizers: tuple[Any, Any],
    examples: Sequence[Example],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Say of which old rows each new one is made.

    Parameters
    ----------
    vocabulary : Vocabulary
        The old one.
    ids : mapping of str to int
        The new pieces.
    tokenizers : tuple of tokenizers.Tokenizer
        The old and the new one.
    examples : sequence of Example
        The corpus.

    Returns
    -------
    new, old : int64 (entries,)
    share : float32 (entries,)
        Shares of a new row add up to 1.
    """
    numbers = {**vocabulary.ids, **vocabulary.added}
    sums: dict[int, dict[int, float]] = {}
    for old, new in _both(tokenizers, examples):
        for inside, place, covered in _overlaps(old, new):
            row = sums.setdefault(inside, {})
            row[place] = row.get(place, 0.0) + covered
    entries: list[tuple[int, int, float]] = []
    for piece, number in ids.items():
        if piece in numbers:
            entries.append((number, numbers[piece], 1.0))
            continue
        row = sums.get(number) or _alone(vocabulary, tokenizers[0], piece)
        whole = sum(row.values())
        entries += [(number, place, covered / whole) for place, covered in row.items()]
    columns = list(zip(*entries, strict=True))
    return (
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float32),
    )


def _alone(vocabulary: Vocabulary, tokenizer: Any, piece: str) -> dict[int, float]:
    """Divide a piece that no text gives by itself; what cannot be divided is unknown."""
    found = tokenizer.encode(vocabulary.bare(piece), add_special_tokens=False).ids
    if not found:
        unknown = vocabulary.unknown or vocabulary.names[min(vocabulary.names)]
        found = [{**vocabulary.ids, **vocabulary.added}[unknown]]
    return dict.fromkeys(found, 1.0)


Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Pieces of an example: ids, and the letters where each begins and ends."""


def _both(
    tokenizers: tuple[Any, Any], examples: Sequence[Example]
) -> Iterator[tuple[Places, Places]]:
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        for in_words in (True, False):
            some = [one for one in chunk if bool(words_of(one)) == in_words]
            texts = [list(words_of(one)) if in_words else running_text(one) for one in some]
            old, new = (
                one.encode_batch(texts, is_pretokenized=in_words, add_special_tokens=False)
                for one in tokenizers
            )
            for pair in zip(old, new, strict=True):
                yield _places(pair[0], in_words), _places(pair[1], in_words)


def _places(encoding: Any, in_words: bool) -> Places:
    spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    if in_words and len(spans):
        spans = spans + np.array(encoding.word_ids, np.int64)[:, None] * WORD
    return np.array(encoding.ids, np.int64), spans[:, 0], spans[:, 1]


def _overlaps(old: Places, new: Places) -> Iterator[tuple[int, int, float]]:
    """Give (new piece, old piece, share of the new one's letters that the old one covers)."""
    ids, begins, ends = (one.tolist() for one in old)
    at = 0
    for piece, begin, end in zip(*(one.tolist() for one in new), strict=True):
        while at < len(ids) and ends[at] <= begin:
            at += 1
        place = at
        while place < len(ids) and begins[place] < end:
            covered = min(end, ends[place]) - max(begin, begins[place])
            if covered > 0:
                yield piece, ids[place], covered / (end - begin)
            place += 1


def fared(
    before: Split, after: Split, unknown: tuple[int, int], examples: Sequence[Example]
) -> Json:
    """Say how texts are divided before and after: pieces per word, over all and by data file.

    Parameters
    ----------
    before, after : Split
        Of `examples`, by the old and by the new tokenizer.
    unknown : tuple of int
        Id of the unknown piece of either; -1 where there is none.
    examples : sequence of Example
    """
    words = np.array([len(words_of(one)) or len(running_text(one).split()) for one in examples])
    pieces = [np.diff(one.start) for one in (before, after)]
    sources = [one.source for one in examples]
    found: Json = {
        "texts": len(examples),
        "words": int(words.sum()),
        "pieces_per_word": [_ratio(each.sum(), words.sum()) for each in pieces],
        "unknown": [
            _ratio((one.ids == number).sum(), len(one.ids))
            for one, number in zip((before, after), unknown, strict=True)
        ],
    }
    files = sorted({source for source in sources if source})
    if len(files) > 1:
        inside = {name: np.array([source == name for source in sources]) for name in files}
        found["pieces_per_word_by_file"] = {
            name: [_ratio(each[here].sum(), words[here].sum()) for each in pieces]
            for name, here in inside.items()
        }
    return found


def _ratio(part: Any, whole: Any) -> float:
    return round(float(part) / float(whole), 4) if whole else 0.0
