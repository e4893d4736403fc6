"""Changed copies of training examples: names swapped, words replaced, masked or dropped, n-grams.

A copy has no labels: the teacher, asked about it, says what it is. Nothing here needs torch, and
the same examples, fields and seed give the same copies.

Sources: mention replacement after Dai & Adel, 2020, "An Analysis of Simple Data Augmentation for
Named Entity Recognition"; masking, replacing and n-gram sampling with labels from the teacher after
Tang et al., 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from edgecompress.errors import DataError
from edgecompress.tasks.metrics import spans
from edgecompress.texts import tags_of, text_example, text_of, words_example, words_of
from edgecompress.training.new_names import made_up, names_in
from edgecompress.values import Example

TRIES = 4
"""Draws of a copy before it is given up because it is like one that is there already."""

Words = tuple[str, ...]


class Changes(BaseModel):
    """How a copy of a training example differs from it; shares of 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mentions: float | None = Field(default=None, ge=0, le=1)
    """Share of the entity mentions that give way to another mention of their type from the training
    data, of the same file (language) where it has one. null: 0.5 where there are entities."""
    names: float = Field(default=0.0, ge=0, le=1)
    """Share of these whose place a name of `transfer.corpus` takes: a run of capitalised words. Of
    which type it is there the teacher says."""
    invent: float = Field(default=0.0, ge=0, le=1)
    """Share of these whose words are made up: the beginning of one and the end of another."""
    replace: float = Field(default=0.1, ge=0, le=1)
    """Share of the words outside mentions that give way to a word drawn from the same file's words,
    as often as they occur there."""
    mask: float = Field(default=0.0, ge=0, le=1)
    """Share of the words outside mentions that give way to the tokenizer's mask token."""
    drop: float = Field(default=0.0, ge=0, le=1)
    """Share of the words outside mentions that are left out."""
    ngrams: float = Field(default=0.0, ge=0, le=1)
    """Share of the copies of which only a run of neighbouring words is kept."""
    ngram_words: PositiveInt = 5
    """Longest such run, in words."""
    recase: float = Field(default=0.0, ge=0, le=1)
    """Share of the copies written in small letters, in capitals, or with capitalised words, as
    headlines and messages are; nothing where the tokenizer folds case anyway."""

    @model_validator(mode="after")
    def _one_change_a_word(self) -> Changes:
        if self.replace + self.mask + self.drop > 1:
            raise ValueError(
                "replace, mask and drop are shares of the same words; at most 1 in all"
            )
        return self


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What copies are made of: mentions and words of the training examples.

    Attributes
    ----------
    mentions : mapping of (source, type) to mentions
        Distinct, in the order of first sight; the source ``""`` holds those of all files.
    words : mapping of source to (words, float64 (words,))
        Distinct words, and the share of each and all before it.
    parts : mapping of source to words
        The distinct words of its mentions.
    names : mentions
        Of other text.
    """

    mentions: Mapping[tuple[str, str], tuple[Words, ...]]
    words: Mapping[str, tuple[Words, NDArray[np.float64]]]
    parts: Mapping[str, Words]
    names: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What of the tokenizer matters: its mask token ("" where it has none), whether case counts."""

    mask: str = ""
    cased: bool = True


def own_words(example: Example) -> Words:
    """Give an example's words: its own, or those between the blanks of its text."""
    return words_of(example) or tuple(text_of(example).split())


def changed_copies(
    changes: Changes,
    copies: int,
    train: Sequence[Example],
    seed: int,
    tokens: Tokens,
    known: set[Words],
    corpus: Sequence[Example] = (),
) -> list[Example]:
    """Make up to `copies` changed copies of each training example.

    Parameters
    ----------
    changes : Changes
    copies : int
    train : sequence of Example
    seed : int
    tokens : Tokens
    known : set of tuple of str
        Texts that must not come again; gets those that are made.
    corpus : sequence of Example
        Other text, for `Changes.names`.

    Returns
    -------
    list of Example
        Without labels, example by example. A copy that cannot be told from a known text after some
        draws is left out.

    Raises
    ------
    DataError
        When mentions are to be swapped and the examples have none, names are to come of a corpus
        that has none, words are to be masked by a tokenizer without a mask token, or all shares
        are 0.
    """
    lexicon = make_lexicon(train, corpus if changes.names else ())
    share = _mention_share(changes, lexicon)
    if changes.mask and not tokens.mask:
        raise DataError("the tokenizer has no mask token; set transfer.how.mask to 0")
    recase = changes.recase if tokens.cased else 0.0
    if not (share or changes.replace or changes.mask or changes.drop or changes.ngrams or recase):
        raise DataError(
            "augment makes copies, and no field of transfer.how changes anything in them"
        )
    found = []
    for index, example in enumerate(train):
        random = np.random.default_rng((seed, index))
        for _ in range(copies):
            for _ in range(TRIES):
                words = _changed(example, changes, share, recase, lexicon, tokens, random)
                if words and words not in known:
                    known.add(words)
                    found.append(_unlabelled(example, words))
                    break
    return found


def make_lexicon(train: Sequence[Example], corpus: Sequence[Example] = ()) -> Lexicon:
    """Collect the mentions and words of the training examples, and the names of other text."""
    mentions: dict[tuple[str, str], dict[Words, None]] = {}
    counts: dict[str, Counter[str]] = {}
    for example in train:
        words = own_words(example)
        counts.setdefault(example.source, Counter()).update(words)
        for kind, first, last in sorted(spans(tags_of(example))) if tags_of(example) else ():
            for source in {example.source, ""}:
                mentions.setdefault((source, kind), {})[words[first : last + 1]] = None
    shares = {
        source: (tuple(found), np.cumsum(list(found.values())) / found.total())
        for source, found in counts.items()
        if found
    }
    parts = {
        source: tuple(dict.fromkeys(word for found in each for word in found))
        for source, each in _by_source(mentions).items()
    }
    names = names_in([own_words(example) for example in corpus])
    return Lexicon({key: tuple(each) for key, each in mentions.items()}, shares, parts, names)


def _by_source(mentions: Mapping[tuple[str, str], Iterable[Words]]) -> dict[str, list[Words]]:
    found: dict[str, list[Words]] = {}
    for (source, _), each in mentions.items():
        found.setdefault(source, []).extend(each)
    return found


def _mention_share(changes: Changes, lexicon: Lexicon) -> float:
    if changes.mentions and not lexicon.mentions:
        raise DataError(
            "transfer.how.mentions swaps entity mentions, and the training examples have none; "
            "leave it out"
        )
    default = 0.5 if lexicon.mentions else 0.0
    share = default if changes.mentions is None else changes.mentions
    for field in ("names", "invent"):
        if getattr(changes, field) and not share:
            raise DataError(
                f"transfer.how.{field} is a share of the mentions that are swapped, and none is; "
                "leave it out"
            )
    if changes.names and not lexicon.names:
        raise DataError(
            "transfer.how.names takes names of transfer.corpus, and that has none written with "
            "capitals within a sentence; name other text, or leave it out"
        )
    return share


def _changed(
    example: Example,
    changes: Changes,
    mentions: float,
    recase: float,
    lexicon: Lexicon,
    tokens: Tokens,
    random: np.random.Generator,
) -> Words:
    words = own_words(example)
    inside = {}
    for kind, first, last in spans(tags_of(example)) if tags_of(example) else ():
        inside[first] = (kind, last)
    found: list[str] = []
    at = 0
    while at < len(words):
        if at in inside:
            kind, last = inside[at]
            mention = words[at : last + 1]
            if mentions and random.random() < mentions:
                mention = _new_mention(mention, example.source, kind, changes, lexicon, random)
            found.extend(mention)
            at = last + 1
            continue
        chance = random.random()
        if chance < changes.replace:
            found.append(_drawn(example.source, lexicon, random))
        elif chance < changes.replace + changes.mask:
            found.append(tokens.mask)
        elif chance >= changes.replace + changes.mask + changes.drop:
            found.append(words[at])
        at += 1
    if found and changes.ngrams and random.random() < changes.ngrams:
        count = int(random.integers(1, min(changes.ngram_words, len(found)) + 1))
        start = int(random.integers(0, len(found) - count + 1))
        found = found[start : start + count]
    if recase and random.random() < recase:
        way = (str.lower, str.upper, str.capitalize)[int(random.integers(3))]
        found = [word if word == tokens.mask else way(word) for word in found]
    return tuple(found)


def _new_mention(
    mention: Words,
    source: str,
    kind: str,
    changes: Changes,
    lexicon: Lexicon,
    random: np.random.Generator,
) -> Words:
    """Give what a mention gives way to: a name of other text, a made-up one or another mention."""
    if changes.names and random.random() < changes.names:
        return lexicon.names[int(random.integers(len(lexicon.names)))]
    other = _other_mention(mention, source, kind, lexicon, random)
    if changes.invent and random.random() < changes.invent:
        return tuple(made_up(word, lexicon.parts[source], random) for word in other)
    return other


def _other_mention(
    mention: Words, source: str, kind: str, lexicon: Lexicon, random: np.random.Generator
) -> Words:
    """Draw another mention of the type; of the same file where it has another one."""
    for place in (source, ""):
        others = lexicon.mentions[place, kind]
        if len(others) > 1:
            drawn = int(random.integers(len(others) - 1))
            # The mention's own place is stepped over, so that every other one is equally likely.
            return others[drawn + (drawn >= others.index(mention))]
    return mention


def _drawn(source: str, lexicon: Lexicon, random: np.random.Generator) -> str:
    words, shares = lexicon.words[source]
    return words[int(np.searchsorted(shares, random.random(), side="right"))]


def _unlabelled(example: Example, words: Words) -> Example:
    if words_of(example):
        return words_example(words=words, source=example.source)
    return text_example(text=" ".join(words), source=example.source)
