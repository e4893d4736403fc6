"""The text side of a model: its tokenizer's files, read with the `tokenizers` library alone.

What transformers reads from ``tokenizer.json`` and ``tokenizer_config.json`` is read here without
it, so that a Raspberry Pi encodes text exactly as training did.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.processors.base import Array, Processor
from edgecompress.processors.text_settings import (
    files_digest,
    max_length_of,
    pad_id_of,
    probes,
    specials_of,
)
from edgecompress.reading import first_line, read_optional, read_text
from edgecompress.values import Feed

Ids = NDArray[np.int64]

TOKENIZER_BYTES = 128 * 2**20  # those of a million pieces have 60 MB; a file is held while parsed
CHUNK = 1024  # sentences per call of the tokenizer: bounds the memory its Encoding objects take

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""What texts give."""
AXES = {0: "batch_size", 1: "sequence_length"}
"""Of each of them, as exporters name them."""


@dataclass(frozen=True, eq=False)
class TextProcessor(Processor):
    """A tokenizer with what a model needs to know of it; make one with `TextProcessor.load`.

    Attributes
    ----------
    tokenizer : tokenizers.Tokenizer
        Without truncation and padding: rows are cut into windows and padded by the tasks.
    max_length : int
        Most tokens in a row, special ones included.
    pad_id : int
        Id that fills a row up in a batch.
    input_names : tuple of str
        What the model takes, from ``model_input_names``.
    prefix, suffix : tuple of int
        Special tokens before and behind a single text, as the tokenizer's post-processor sets them.
    token_types : tuple of int
        Segment ids of the prefix, the text and the suffix.
    digest : str
        SHA-256 over the files; equal digests encode alike.
    """

    kind: ClassVar[str] = "text"

    tokenizer: Any
    max_length: int
    pad_id: int
    input_names: tuple[str, ...]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    token_types: tuple[int, int, int]
    digest: str

    @classmethod
    def load(cls, directory: Path | None) -> TextProcessor:
        """Read ``tokenizer.json`` and ``tokenizer_config.json`` from `directory`.

        Raises
        ------
        DataError
            When ``tokenizer.json`` is missing, or one of the files is damaged.
        """
        from tokenizers import Tokenizer

        if directory is None:
            raise DataError("the model has no tokenizer, so that texts cannot be encoded for it")
        file = directory / "tokenizer.json"
        if not file.exists():
            raise DataError(
                "the tokenizer is missing; save it with "
                "AutoTokenizer.from_pretrained(…).save_pretrained(directory)",
                file=file,
            )
        text = read_text(file, TOKENIZER_BYTES)
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 - tokenizers raises the bare class
            why = first_line(error)
            raise DataError(f"not a tokenizer that can be read ({why})", file=file) from None
        settings = directory / "tokenizer_config.json"
        config = read_optional(settings)
        pad_id = pad_id_of(tokenizer, config)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        prefix, suffix, token_types = specials_of(tokenizer)
        max_length = max_length_of(config)
        if max_length <= len(prefix) + len(suffix):
            raise DataError(
                f"model_max_length {max_length} leaves no room for text beside special tokens",
                file=settings,
            )
        names = config.get("model_input_names") or ("input_ids", "attention_mask")
        if not isinstance(names, list | tuple):
            raise DataError("model_input_names must be a list", file=settings)
        return cls(
            tokenizer=tokenizer,
            max_length=max_length,
            pad_id=pad_id,
            input_names=tuple(str(name) for name in names),
            prefix=prefix,
            suffix=suffix,
            token_types=token_types,
            digest=files_digest(directory),
        )

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces, added tokens included."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def capacity(self) -> int:
        """Most pieces of text in a row, special tokens not counted."""
        return self.max_length - len(self.prefix) - len(self.suffix)

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[tuple[Ids, Ids]]:
        """Encode sentences that are split into words, without special tokens.

        Parameters
        ----------
        sentences : sequence of sequence of str

        Returns
        -------
        list of (ids, word_ids)
            For each sentence the piece ids, int64 (pieces,), and the index of the word that each
            piece belongs to, int64 (pieces,), rising. A word of nothing but blanks has no piece.

        Raises
        ------
        DataError
            When a word is not valid Unicode (a lone surrogate).
        """
        if self._words_stand_alone:
            spans = self.encode_spans([" ".join(words) for words in sentences])
            return [
                (ids, _words_behind(words, found[:, 0]))
                for words, (ids, found) in zip(sentences, spans, strict=True)
            ]
        result = []
        for encoding in self._encodings([list(words) for words in sentences], pretokenized=True):
            ids = np.array(encoding.ids, dtype=np.int64)
            result.append((ids, np.array(encoding.word_ids, dtype=np.int64)))
        return result

    @functools.cached_property
    def _words_stand_alone(self) -> bool:
        """Whether words with blanks between them give the pieces that each gives by itself.

        So it is where a tokenizer divides at blanks first, as BERT's does; one text is then encoded
        a third faster than its words.
        """
        tokenizer = self.tokenizer
        parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)
        kinds = tuple(type(part).__name__ for part in parts)
        added = tokenizer.get_added_tokens_decoder().values()
        return kinds == ("BertNormalizer", "BertPreTokenizer", "WordPiece") and not any(
            one.lstrip or one.rstrip or any(map(str.isspace, one.content)) for one in added
        )

    def encode_text(self, texts: Sequence[str]) -> list[Ids]:
        """Encode running texts, without special tokens: piece ids, int64 (pieces,), per text.

        Raises
        ------
        DataError
            When a text is not valid Unicode (a lone surrogate).
        """
        encodings = self._encodings(list(texts), pretokenized=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def encode_text_words(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Encode running texts as `encode_text` does, and tell which word each piece belongs to.

        Returns
        -------
        list of (ids, words)
            For each text the piece ids and the numbers of the blank-separated words that these end
            in, int64 (pieces,) each, rising.
        """
        found = zip(texts, self.encode_spans(texts), strict=True)
        return [(ids, _words_at(text, spans.tolist())) for text, (ids, spans) in found]

    def encode_spans(self, texts: Sequence[str]) -> list[tuple[Ids, Ids]]:
        """Encode running texts as `encode_text` does, and tell where each piece stands.

        Returns
        -------
        list of (ids, spans)
            For each text the piece ids, int64 (pieces,), and the first character of each piece and
            the one behind its last, int64 (pieces, 2).
        """
        found = self._encodings(list(texts), pretokenized=False, offsets=True)
        return [
            (np.array(one.ids, np.int64), np.array(one.offsets, np.int64).reshape(-1, 2))
            for one in found
        ]

    def gives(self, name: str, dtype: type[np.generic]) -> bool:
        """Say whether texts have such an input."""
        return name in INPUTS and issubclass(dtype, np.integer)

    def axes(self, feed: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Name the axes of a batch: as many texts of as many tokens as there are."""
        return dict.fromkeys(feed, AXES)

    def batch(
        self, feeds: Sequence[Mapping[str, Array]], names: Sequence[str], length: int = 0
    ) -> dict[str, Array]:
        """Put rows of ``input_ids`` together, padded on the right: int64 (batch, length) each.

        Parameters
        ----------
        feeds : sequence of mapping of str to ndarray
        names : sequence of str
            Of `INPUTS`.
        length : int
            How many tokens there are at least; they are as many as the longest row has.
        """
        chosen = [feed["input_ids"] for feed in feeds]
        if len(chosen) == 1 and length <= len(chosen[0]):
            return {name: self._alone(feeds[0], name) for name in names}
        length = max((length, *map(len, chosen)))
        inside = np.arange(length) < np.array([[len(ids)] for ids in chosen])
        result: dict[str, Array] = {}
        for name in names:
            if name == "input_ids":
                value = np.full((len(chosen), length), self.pad_id, dtype=np.int64)
                value[inside] = np.concatenate(chosen)
            elif name == "attention_mask":
                value = inside.astype(np.int64)
            elif name == "token_type_ids":
                value = np.zeros((len(chosen), length), dtype=np.int64)
                own = [feed.get(name) for feed in feeds]  # those of a pair depend on both texts
                value[inside] = np.concatenate(
                    [
                        self.segment_ids(len(ids)) if types is None else types
                        for ids, types in zip(chosen, own, strict=True)
                    ]
                )
            elif name == "position_ids":
                value = np.broadcast_to(np.arange(length), (len(chosen), length)).copy()
            else:
                raise _no_text_gives(name)
            result[name] = value
        return result

    def _alone(self, feed: Mapping[str, Array], name: str) -> Array:
        """Give an input of one row without padding, int64 (1, length)."""
        ids = feed["input_ids"]
        if name == "input_ids":
            return ids[None].astype(np.int64)
        if name == "attention_mask":
            return np.ones((1, len(ids)), np.int64)
        if name == "token_type_ids":
            types = feed.get(name)
            return (self.segment_ids(len(ids)) if types is None else types)[None].astype(np.int64)
        if name == "position_ids":
            return np.arange(len(ids))[None]
        raise _no_text_gives(name)

    def with_specials(self, ids: Ids) -> Ids:
        """Put the special tokens around the pieces of one row, int64 (pieces + specials,)."""
        before, behind = self._specials
        return np.concatenate((before, ids, behind))

    @functools.cached_property
    def _specials(self) -> tuple[Ids, Ids]:
        return np.array(self.prefix, np.int64), np.array(self.suffix, np.int64)

    def pair(self, first: Ids, second: Ids) -> Feed:
        """Give the row of two texts, from the pieces of both: ``input_ids``, ``token_type_ids``.

        Where they are too long together, the longer one is cut off, and both where both are longer
        than half (`tokenizers`' strategy ``longest_first``).

        Raises
        ------
        DataError
            When the tokenizer does not put two texts together.
        """
        template = self._pair
        if template is None:
            raise DataError("the model's tokenizer does not say how two texts are put together")
        ids, types = template
        room = self.max_length - sum(map(len, ids))
        counts = _fitting(len(first), len(second), room)
        texts = (first[: counts[0]], second[: counts[1]])
        given = (ids[0], texts[0], ids[1], texts[1], ids[2])
        kinds = [np.full(len(one), kind) for one, kind in zip(given, types, strict=True)]
        return {
            "input_ids": np.concatenate(given).astype(np.int64),
            "token_type_ids": np.concatenate(kinds).astype(np.int64),
        }

    @property
    def pair_specials(self) -> tuple[int, int, int]:
        """How many special tokens stand before, between and behind two texts."""
        before, between, behind = self._pair[0] if self._pair else ((), (), ())
        return len(before), len(between), len(behind)

    @functools.cached_property
    def _pair(self) -> tuple[tuple[Ids, Ids, Ids], tuple[int, ...]] | None:
        """What stands before, between and behind two texts, and the segments of all five parts."""
        for probe in probes(self.tokenizer):
            encoding = self.tokenizer.encode(probe, probe, add_special_tokens=True)
            of = encoding.sequence_ids
            if 0 in of and 1 in of:
                break
        else:
            return None
        ids, kinds = np.array(encoding.ids, np.int64), encoding.type_ids
        a, b = of.index(0), of.index(1)
        end, last = a + of.count(0), b + of.count(1)
        segments = (kinds[0], kinds[a], kinds[b - 1], kinds[b], kinds[-1])
        return (ids[:a], ids[end:b], ids[last:]), segments

    def segment_ids(self, length: int) -> Ids:
        """``token_type_ids`` of a row of `length` tokens, int64 (length,)."""
        before, inside, behind = self.token_types
        types = np.full(length, inside, dtype=np.int64)
        types[: len(self.prefix)] = before
        types[length - len(self.suffix) :] = behind
        return types

    def _encodings(
        self, batch: list[Any], *, pretokenized: bool, offsets: bool = False
    ) -> Iterator[Any]:
        # encode_batch_fast is quicker but forgets which word a piece belongs to.
        tokenizer = self.tokenizer
        slow = pretokenized or offsets
        encode = tokenizer.encode_batch if slow else tokenizer.encode_batch_fast
        for start in range(0, len(batch), CHUNK):
            try:
                yield from encode(
                    batch[start : start + CHUNK],
                    is_pretokenized=pretokenized,
                    add_special_tokens=False,
                )
            except (TypeError, UnicodeError):
                raise DataError(
                    "a text holds characters that are not valid Unicode (lone surrogates); "
                    "read it as UTF-8"
                ) from None


def _fitting(first: int, second: int, room: int) -> tuple[int, int]:
    """Give how many pieces of two texts are kept, where there is room for so many."""
    least, most = sorted((first, second))
    if least + most > room:
        most = max(least, room - least)
        if least + most > room:
            least, most = room // 2, room - room // 2
    return (least, most) if first <= second else (most, least)


def _no_text_gives(name: str) -> DataError:
    return DataError(f"the model wants an input {name!r}, which no text gives")


def _words_behind(words: Sequence[str], starts: Ids) -> Ids:
    """Find the words that pieces of the joined words begin in: int64 (pieces,), rising."""
    ends = np.cumsum([len(word) + 1 for word in words], dtype=np.int64)
    return np.searchsorted(ends, starts, side="right").astype(np.int64, copy=False)


def _words_at(text: str, offsets: Sequence[tuple[int, int]]) -> Ids:
    """Find the word of each piece by its last character: int64 (pieces,), rising.

    By the last one, because SentencePiece's pieces begin with the blank before a word; a blank that
    is a piece of its own belongs to the word behind it.
    """
    blank = np.array([character.isspace() for character in text], dtype=bool)
    ends = ~blank & np.append(blank[1:], True)
    # How many words have ended before a character is the number of its word, or of the next one.
    word = np.cumsum(ends) - ends
    last = np.array([max(stop - 1, 0) for _, stop in offsets], dtype=np.int64)
    found = word[np.clip(last, 0, max(len(text) - 1, 0))] if len(text) else last
    return np.minimum(found, max(int(ends.sum()) - 1, 0)).astype(np.int64)
