"""How the next token is chosen from the logits, in numpy.

The steps and their order are those of transformers' `generate`: repetition penalty (Keskar et al.,
2019, "CTRL"), temperature, the k likeliest (Fan et al., 2018), the likeliest that make up a share
(Holtzman et al., 2020, "The Curious Case of Neural Text Degeneration").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen, and when there are enough of them.

    Attributes
    ----------
    max_new_tokens : int
    temperature : float
        0: always the likeliest token.
    top_k : int
        Only so many of the likeliest are drawn from; 0: all.
    top_p : float
        Only the likeliest that together have this probability.
    repetition_penalty : float
        What logits of tokens that stand there already are divided by (multiplied where negative).
    stop : tuple of str
        Texts at which the answer ends; they are no part of it.
    seed : int
        Of what is drawn: the same seed draws the same answer.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


def choose(
    logits: Logits,
    before: Sequence[int] | NDArray[np.int64],
    how: Sampling,
    random: np.random.Generator,
    suppressed: Collection[int] = (),
) -> int:
    """Choose the next token.

    Parameters
    ----------
    logits : float (vocabulary,)
        Not changed.
    before : sequence of int
        The tokens that stand there already, of the prompt and of the answer.
    how : Sampling
    random : numpy.random.Generator
    suppressed : collection of int
        Tokens that are never chosen.
    """
    scores = np.array(logits, dtype=np.float32)
    if how.repetition_penalty != 1.0 and len(before):
        seen = np.unique(np.asarray(before, np.int64))
        some, penalty = scores[seen], np.float32(how.repetition_penalty)
        scores[seen] = np.where(some < 0, some * penalty, some / penalty)
    if suppressed:
        scores[list(suppressed)] = -np.inf
    if how.temperature <= 0:
        return int(scores.argmax())
    return int(random.choice(len(scores), p=_shares(scores / np.float32(how.temperature), how)))


def _shares(scores: Logits, how: Sampling) -> NDArray[np.float64]:
    if 0 < how.top_k < len(scores):
        least = np.partition(scores, -how.top_k)[-how.top_k]
        scores = np.where(scores < least, -np.inf, scores)
    shares: NDArray[np.float64] = np.exp(scores.astype(np.float64) - float(scores.max()))
    shares /= shares.sum()
    if how.top_p < 1:
        order = np.argsort(-shares, kind="stable")
        behind = np.cumsum(shares[order]) - shares[order] >= how.top_p
        behind[0] = False
        shares[order[behind]] = 0.0
        shares /= shares.sum()
    return shares
