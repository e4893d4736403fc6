"""Words that are hidden in a text and must be guessed: how an encoder learns a language.

Rows hold running text, so that they are divided into pieces as text is anywhere else. Labels of the
data are not read, and a model of this task has none. What training hides is drawn anew each epoch;
what is scored is always the same words of a text, whoever is asked: they are drawn by the text
itself, and do not depend on the tokenizer.

Sources: Devlin et al., 2019, "BERT"; new masks each epoch after Liu et al., 2019, "RoBERTa"; scores
are those of pseudo-likelihoods (Salazar et al., 2020, "Masked Language Model Scoring"), with all
hidden words of a text hidden at once.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import ANSWERS, Metric
from edgecompress.processors.text import TextProcessor
from edgecompress.tasks import metrics
from edgecompress.tasks._frequent import most_frequent
from edgecompress.tasks.answers import Answer, Answers
from edgecompress.tasks.asking import Form
from edgecompress.tasks.base import (
    Floats,
    Floor,
    Task,
    check_outputs,
)
from edgecompress.tasks.rows import IGNORED, Ids, Row, Rows
from edgecompress.tasks.token_classification import windows
from edgecompress.texts import running_text
from edgecompress.values import Example

SHARE = 0.15
"""Of a text's words, how many are hidden to score a model (BERT's figure)."""

MASKS = ("[MASK]", "<mask>")

COMPACT = 2
"""Columns of what `MaskedLM.compact` keeps: log probability of the right piece, likeliest piece."""


@functools.lru_cache(maxsize=1 << 16)  # the same texts are scored for every candidate
def _asked(text: str) -> tuple[str, ...]:
    """Give the words of a text that are hidden."""
    split = text.split()
    return tuple(split[index] for index in hidden_words(text))


def _logs(answer: Answer, example: Example) -> tuple[float, int]:
    """Sum the log probabilities of an example's hidden words, and count these."""
    # A probability that is 0 in float64 counts as the smallest that is not.
    known = np.log(np.maximum(answer.confidence, np.finfo(np.float64).tiny))
    return known.sum(), len(_asked(running_text(example)))


def _hits(answer: Answer, example: Example) -> tuple[int, int]:
    """Count the hidden words that are guessed, and all of them."""
    words = _asked(running_text(example))
    return sum(a == b for a, b in zip(answer.labels, words, strict=True)), len(words)


def _likelihood(counts: Floats) -> Floats:
    """Geometric mean of the probabilities, float (…, 2) to (…)."""
    found: Floats = np.exp(counts[..., 0] / np.maximum(counts[..., 1], 1))
    return found


LIKELIHOOD = Metric(
    "likelihood",
    "Likelihood of hidden words",
    "geometric mean of the probabilities given to the hidden words (1 over it is the "
    "pseudo-perplexity by word)",
    higher_is_better=True,
    needs=ANSWERS,
    counts=_logs,
    value=_likelihood,
)
GUESSED = replace(metrics.ACCURACY, meaning="share of the hidden words guessed", counts=_hits)


class MaskedLM(Task):
    """A piece of the vocabulary for every hidden piece."""

    name: ClassVar[str] = "masked-lm"
    also_called: ClassVar[tuple[str, ...]] = ("fill-mask", "mlm", "language-modeling")
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    metrics: ClassVar[tuple[Metric, ...]] = (LIKELIHOOD, GUESSED)
    labelled: ClassVar[bool] = False
    redraws: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = ()
    refusal: ClassVar[str] = "guesses hidden words and answers nothing by itself"
    windows: ClassVar[str] = "which meet between two words and do not see each other"
    architectures: ClassVar[tuple[str, ...]] = ("ForMaskedLM", "ForPreTraining")
    head_tensors: ClassVar[tuple[str, ...]] = (
        *("cls.predictions.", "lm_head.", "vocab_", "generator_", "predictions.", "head."),
    )

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: the classes are the pieces of the vocabulary."""
        if not any(running_text(example) for example in examples):
            raise DataError("the data holds no text; masked-lm needs some")
        return ()

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - the classes are the tokenizer's pieces
    ) -> Rows:
        """Turn texts into rows in which the words of `hidden_words` are hidden.

        In a row's `place`, ``positions`` int64 (pieces,) are the places of all pieces of text, and
        ``words`` int64 (pieces,) the blank-separated word of the example that each belongs to;
        ``labels`` are the right pieces where one is hidden.

        Raises
        ------
        DataError
            When the tokenizer has no token to hide words with.
        """
        mask = mask_id(processor)
        texts = [running_text(example) for example in examples]
        found = []
        for number, (text, (ids, words)) in enumerate(
            zip(texts, processor.encode_text_words(texts), strict=True)
        ):
            asked = hidden_words(text)
            first = np.diff(words, prepend=-2) != 0
            for start, stop in windows(first, processor.capacity):
                at = np.arange(stop - start) + len(processor.prefix)
                row = processor.with_specials(ids[start:stop])
                label = np.full(len(row), IGNORED, dtype=np.int64)
                here = at[np.isin(words[start:stop], asked)]
                label[here] = row[here]
                row[here] = mask
                place = {"positions": at, "words": words[start:stop]}
                found.append(Row({"input_ids": row}, number, len(row), place, {"labels": label}))
        return Rows(tuple(found), examples, self, processor, ())

    def compact(self, output: Floats, row: Row) -> Floats:
        """Keep of a row's logits what is read of them, float64 (hidden pieces, 2).

        Logits over a vocabulary for every token of a data set fill any memory.
        """
        if output.shape[-1] == COMPACT:
            return output
        at = np.flatnonzero(row.target["labels"] != IGNORED)
        return self.compact_at(output[at], row.target["labels"][at])

    def compact_at(self, outputs: Floats, labels: Ids) -> Floats:
        """Give the log probability of the right piece and the likeliest piece of each place.

        Parameters
        ----------
        outputs : float (places, pieces)
        labels : int64 (places,)

        Returns
        -------
        float64 (places, 2)
        """
        shifted = outputs.astype(np.float64) - outputs.max(axis=-1, keepdims=True)
        norm = np.log(np.exp(shifted).sum(axis=-1))
        found = shifted[np.arange(len(labels)), labels] - norm
        best = outputs.argmax(axis=-1) if len(labels) else np.zeros(0)
        return np.stack((found, best.astype(np.float64)), axis=-1)

    def redrawn(self, row: Row, processor: Any, random: Any, settings: Any) -> Row:
        """Hide other pieces of a row, a share of all of them.

        80 % of them become the mask token, 10 % another piece, 10 % stay (Devlin et al., 2019).
        """
        labels = row.target["labels"]
        whole = np.where(labels != IGNORED, labels, row.feed["input_ids"])
        chosen = row.place["positions"][_chosen(row.place["words"], random, settings)]
        label = np.full_like(whole, IGNORED)
        label[chosen] = whole[chosen]
        fate = random.random(len(chosen))
        pieces = _pieces(processor)
        other = pieces[random.integers(len(pieces), size=len(chosen))]
        masked = whole.copy()
        masked[chosen] = np.where(
            fate < 0.8, mask_id(processor), np.where(fate < 0.9, other, whole[chosen])
        )
        return replace(row, feed={"input_ids": masked}, target={"labels": label})

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each hidden word as the model guesses it, and the probability of the right word.

        A word's guess is the likeliest piece at each of its places; its probability is the product
        of its pieces'. A word without pieces, or behind what a row can hold, is given as it is.

        Parameters
        ----------
        outputs : sequence of float (length, pieces) or (hidden pieces, 2)
            Whole, or what `compact` keeps of them.
        rows : Rows
        """
        check_outputs(outputs, rows)
        texts = [running_text(example) for example in rows.examples]
        asked = [hidden_words(text).tolist() for text in texts]
        split = [text.split() for text in texts]
        said = [[split[k][word] for word in words] for k, words in enumerate(asked)]
        confidence = [np.ones(len(words)) for words in asked]
        places = [{word: place for place, word in enumerate(words)} for words in asked]
        tokenizer = rows.processor.tokenizer
        for row, values in zip(rows, outputs, strict=True):
            kept = self.compact(values, row)
            labels = row.target["labels"][row.place["positions"]]
            of_word = row.place["words"][labels != IGNORED]
            right = labels[labels != IGNORED]
            for word in np.unique(of_word).tolist():
                mine = of_word == word
                place = places[row.example][word]
                confidence[row.example][place] = np.exp(kept[mine, 0].sum())
                guess = kept[mine, 1].astype(np.int64)
                if not np.array_equal(guess, right[mine]):
                    said[row.example][place] = str(tokenizer.decode(guess.tolist()))
        return Answers(tuple(tuple(words) for words in said), tuple(confidence))

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:
        """Guess the most frequent piece of `known` everywhere, whatever stands around the place.

        The probability of every piece is its share of `known`, in which each piece of the
        vocabulary is counted once more (Laplace's rule of succession), so that none is impossible.
        """
        return most_frequent(self, known, processor, "piece")


def hidden_words(text: str, share: float = SHARE) -> Ids:
    """Choose the words of a text that are hidden to score a model, int64 (words,), rising.

    Drawn by the text: the same for every model and tokenizer. At least one, of a text with words.
    """
    count = len(text.split())
    if not count:
        return np.zeros(0, dtype=np.int64)
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")
    chosen = np.random.default_rng(seed).choice(
        count, size=max(1, round(share * count)), replace=False
    )
    return np.sort(chosen).astype(np.int64)


def mask_id(processor: TextProcessor) -> int:
    """Find the token that stands for a hidden piece.

    Raises
    ------
    DataError
        When there is none.
    """
    for name in MASKS:
        found = processor.tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    raise DataError(
        f"the tokenizer has no mask token ({' or '.join(MASKS)}), which masked-lm hides words "
        "with; take a model that was trained on hidden words"
    )


def _chosen(words: Ids, random: Any, settings: Any) -> Ids:
    """Choose pieces to hide, as numbers of them, rising; none of a row without pieces."""
    count = min(len(words), max(1, round(settings.share * len(words))))
    if not settings.whole_words:
        return np.sort(random.choice(len(words), size=count, replace=False))
    order = random.permutation(np.unique(words))
    sizes = np.array([int((words == word).sum()) for word in order], dtype=np.int64)
    taken = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    return np.flatnonzero(np.isin(words, order[:taken]))


@functools.lru_cache(maxsize=4)
def _pieces(processor: TextProcessor) -> Ids:
    """Ids of pieces that may stand for another one: no special tokens, int64."""
    added = processor.tokenizer.get_added_tokens_decoder()
    special = [number for number, token in added.items() if token.special]
    return np.setdiff1d(np.arange(processor.vocabulary_size), special)
