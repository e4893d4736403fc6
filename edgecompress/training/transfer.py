"""The transfer set of a distillation: text without labels, and changed copies of the training text.

The teacher answers whatever text it is given, so that a student can learn from more than what
people have labelled. What comes from here has no labels; the losses that need none are taken of it.
Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from edgecompress.data.corpus import Corpus, check_corpus, corpus_identity, read_corpus
from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.texts import split_words, text_example, text_of, words_example, words_of
from edgecompress.training.augment import Changes, Tokens, Words, changed_copies, own_words
from edgecompress.values import Example, Json

MOSTLY = 0.5
"""A text is of no use when more than this share of its pieces is unknown to the tokenizer."""


class Transfer(BaseModel):
    """Text that a student learns from beside the training examples, answered by the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    corpus: Corpus = ()
    """Where unlabelled text comes from; labels in it are not read."""
    most: PositiveInt | None = None
    """Most texts taken of the corpus, drawn at random; null takes all."""
    longest: PositiveInt = 100
    """Longest text in words; a longer one is divided into parts of about equal length."""
    augment: NonNegativeInt = 0
    """Changed copies of each training example."""
    how: Changes = Field(default_factory=Changes)
    """What is changed in these copies."""

    def identity(self) -> Json:
        """Give the fields as a result depends on them: what the corpus holds, not where it lies."""
        document = self.model_dump(mode="json", exclude={"corpus"})
        return {**document, "corpus": corpus_identity(self.corpus)}

    def check(self) -> None:
        """Check what the fields name on disk, before any work starts.

        Raises
        ------
        DataError
            When a file of the corpus is missing or malformed.
        """
        check_corpus(self.corpus)


def transfer_examples(
    transfer: Transfer,
    train: Sequence[Example],
    seed: int,
    preprocessor: TextProcessor | None = None,
    held_out: Sequence[Example] = (),
) -> tuple[Example, ...]:
    """Give the examples without labels that a student learns from beside `train`.

    Parameters
    ----------
    transfer : Transfer
    train : sequence of Example
        Decides the form: where they have words, the text of the corpus is divided into words, at
        blanks and with punctuation apart (`edgecompress.texts.split_words`).
    seed : int
        The same fields, examples and seed give the same examples.
    preprocessor : TextProcessor, optional
        The student's. Without it no text is refused for its script and no word is masked.
    held_out : sequence of Example
        Their texts are left out: what is chosen on must not be learnt from.

    Returns
    -------
    tuple of Example
        First the corpus, then the changed copies. None is empty, and none has the same words as
        another, as one of `train` or as one of `held_out`.

    Raises
    ------
    DataError
        When nothing of the corpus is left, most of it is in a script that the tokenizer does not
        know, or the copies cannot be changed as asked for.
    """
    known = {own_words(example) for example in (*train, *held_out)}
    known.add(())
    found = _from_corpus(transfer, train, seed, preprocessor, known) if transfer.corpus else []
    if transfer.augment:
        tokens = tokens_of(preprocessor) if preprocessor else Tokens()
        found += changed_copies(transfer.how, transfer.augment, train, seed, tokens, known, found)
    return tuple(found)


def tokens_of(preprocessor: TextProcessor) -> Tokens:
    """Find the mask token, and whether the tokenizer tells capitals from small letters."""
    small, capital = preprocessor.encode_text(["a", "A"])
    name = next((m for m in ("[MASK]", "<mask>") if _id(preprocessor, m) is not None), "")
    return Tokens(name, not np.array_equal(small, capital))


def _id(preprocessor: TextProcessor, token: str) -> int | None:
    found: int | None = preprocessor.tokenizer.token_to_id(token)
    return found


def _from_corpus(
    transfer: Transfer,
    train: Sequence[Example],
    seed: int,
    preprocessor: TextProcessor | None,
    known: set[Words],
) -> list[Example]:
    in_words = any(words_of(example) for example in train)
    found = []
    read = read_corpus(transfer.corpus, train)
    for example in read:
        for part in _parts(example, transfer.longest, in_words):
            words = own_words(part)
            if words not in known:
                known.add(words)
                found.append(part)
    if not found:
        raise DataError(
            f"no text of transfer.corpus is left: of its {len(read)} all are empty or stand in the "
            "training or validation data already; name other text"
        )
    if preprocessor is not None:
        found = _readable(found, preprocessor)
    if transfer.most is not None and len(found) > transfer.most:
        random = np.random.default_rng(seed)
        chosen = random.choice(len(found), size=transfer.most, replace=False)
        found = [found[index] for index in sorted(chosen.tolist())]
    return found


def _parts(example: Example, longest: int, in_words: bool) -> Iterator[Example]:
    """Give an example in the form of the training data, in parts of at most `longest` words."""
    if in_words and not words_of(example):
        text = text_of(example)
        words = tuple(text[start:stop] for start, stop in split_words(text))
    else:
        words = own_words(example)
    for part in np.array_split(np.arange(len(words)), max(1, -(-len(words) // longest))):
        if not len(part):
            continue
        inside = words[part[0] : part[-1] + 1]
        if in_words:
            yield words_example(words=inside, source=example.source)
        else:
            yield text_example(text=" ".join(inside), source=example.source)


def _readable(found: list[Example], preprocessor: TextProcessor) -> list[Example]:
    """Leave out the texts that are mostly unknown pieces; refuse when these are most of them."""
    unknown = _unknown_id(preprocessor)
    if unknown is None:
        return found
    if words_of(found[0]):
        pieces = [ids for ids, _ in preprocessor.encode_words([words_of(one) for one in found])]
    else:
        pieces = preprocessor.encode_text([text_of(one) for one in found])
    kept = [
        example
        for example, ids in zip(found, pieces, strict=True)
        if len(ids) and np.mean(ids == unknown) <= MOSTLY
    ]
    if len(kept) < (1 - MOSTLY) * len(found):
        lost = next(e for e, ids in zip(found, pieces, strict=True) if e not in kept)
        raise DataError(
            f"{len(found) - len(kept)} of {len(found)} texts of transfer.corpus are mostly unknown "
            f"to the tokenizer ({' '.join(own_words(lost)[:5])} …): its vocabulary does not hold "
            "their script; name text that the model can read"
        )
    return kept


def _unknown_id(preprocessor: TextProcessor) -> int | None:
    """Id of the unknown piece; None for a tokenizer that has none (bytes)."""
    model = json.loads(preprocessor.tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return _id(preprocessor, token) if token else None
