"""Intervals of percentiles by order statistics, for readings that may hang together.

Pure functions. The interval assumes nothing about the shape of what is measured: how many readings
lie below a quantile follows the binomial distribution. Where neighbours are alike it is widened.

Sources: H. A. David and H. N. Nagaraja, Order Statistics (2003), section 7.1; batch means: A. M.
Law, Simulation Modeling and Analysis, chapter 9.
"""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95
BATCH_MEANS = 24  # stretches: enough for a variance, and each long against what lasts


def interval_ranks(count: int, quantile: float) -> tuple[int, int] | None:
    """Ranks (from 0) of the readings that enclose a quantile with 95 % confidence.

    Parameters
    ----------
    count : int
        How many readings.
    quantile : float
        Between 0 and 1, both excluded.

    Returns
    -------
    tuple of int or None
        None when `count` readings are too few for both ends to exist.
    """
    tail = (1 - CONFIDENCE) / 2
    k = np.arange(count + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    log_mass = (
        log_factorial[count]
        - log_factorial
        - log_factorial[::-1]
        + k * math.log(quantile)
        + (count - k) * math.log1p(-quantile)
    )
    below = np.cumsum(np.exp(log_mass))  # below[k] = P(at most k readings lie under the quantile)
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return (low, high) if low >= 0 and high < count else None


def dispersion(ns: np.ndarray, quantile: float) -> float:
    """How much more stretches of a loop differ than if readings were independent, at least 1.

    The share of readings under the quantile is taken in each of a few dozen consecutive stretches;
    its variance is held against the binomial one (batch means: A. M. Law, Simulation Modeling and
    Analysis, chapter 9).

    Parameters
    ----------
    ns : ndarray, shape (readings,)
        In the order of time; fewer than ten a stretch tell nothing and give 1.
    quantile : float
    """
    length = len(ns) // BATCH_MEANS
    if length < 10:
        return 1.0
    under = ns <= np.quantile(ns, quantile)
    shares = under[: length * BATCH_MEANS].reshape(BATCH_MEANS, length).mean(axis=1)
    return max(1.0, float(shares.var(ddof=1)) / (quantile * (1 - quantile) / length))


def needed(quantile: float) -> int:
    """Count the readings that `interval_ranks` needs at least to enclose `quantile`."""
    rare = max(quantile, 1 - quantile)
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(rare))


def widened(ranks: tuple[int, int], middle: float, factor: float, count: int) -> tuple[int, int]:
    """Move the ends of an interval of ranks apart, for a variance that is `factor` times larger."""
    low, high = (middle + (rank - middle) * math.sqrt(factor) for rank in ranks)
    return max(0, min(ranks[0], math.floor(low))), min(count - 1, max(ranks[1], math.ceil(high)))
