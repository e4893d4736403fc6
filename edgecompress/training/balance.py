"""How often the rows of each data file are drawn while training: fixed, or by how far it lags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from edgecompress.errors import DataError
from edgecompress.training.balance_fields import Balance
from edgecompress.training.rows import TorchRows
from edgecompress.training.schedule import BUCKET_BATCHES, Schedule, of_like_length
from edgecompress.values import Json


class Draws:
    """Draws the rows of each epoch, of every data file as often as it is to be.

    A share of a file is p · lagging^(gap / largest gap), divided by the sum over all files, where p
    is its share by size, temperature and weight. As long as nothing is known, it is p.

    Parameters
    ----------
    balance : Balance
    rows : TorchRows
    teacher : callable, optional
        Gives the teacher's score on each validation file (`Task.quality`); asked at the end of the
        first epoch where `balance` has `lagging`.

    Attributes
    ----------
    names : list of str
        The files.
    state : torch.Tensor
        float64 (2, files): how far each scored below the teacher when it was last validated (0 for
        one that scored above it, or that no validation example comes from), and how many of its
        rows were drawn; saved with each epoch.

    Raises
    ------
    DataError
        When a weight is of a file that no row comes from.
    """

    def __init__(
        self,
        balance: Balance,
        rows: TorchRows,
        teacher: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        sources = [rows.examples[number].source for number in rows.example.tolist()]
        self.balance = balance
        self.names = sorted(set(sources))
        balance.check_sources(self.names)
        places = {name: place for place, name in enumerate(self.names)}
        self.file = np.array([places[source] for source in sources])
        counts = np.bincount(self.file).astype(np.float64)
        weights = np.array([balance.weights.get(name, 1.0) for name in self.names])
        shares = counts ** (1 / balance.temperature) * weights
        self.base = shares / shares.sum()
        self.state = torch.zeros((2, len(self.names)), dtype=torch.float64)
        self._teacher, self._goal = teacher or dict, dict[str, float]()

    @property
    def shares(self) -> np.ndarray:
        """How much of what is drawn is of each file, float64 (files,), 1 together."""
        gap = self.state[0].numpy()
        if not gap.any():
            return self.base
        tilted = self.base * self.balance.lagging ** (gap / gap.max())
        return np.asarray(tilted / tilted.sum())

    def validated(self, scores: Mapping[str, float]) -> None:
        """Take the student's score on each validation file (`Task.quality`).

        Raises
        ------
        DataError
            When no file is in both the training and the validation data.
        """
        known = [name for name in self.names if name and name in scores]
        if not known:
            named = [", ".join(sorted(filter(None, some))) for some in (self.names, scores)]
            raise DataError(
                "balance.lagging looks at validation files that are called as training files are; "
                f"training has {named[0] or 'no named files'}, validation "
                f"{named[1] or 'no named files'}"
            )
        self._goal = self._goal or dict(self._teacher())
        for name in known:
            gap = self._goal[name] - scores[name]
            # A score of few examples may be no number.
            self.state[0, self.names.index(name)] = max(gap, 0.0) if np.isfinite(gap) else 0.0

    def batches(
        self, lengths: np.ndarray, schedule: Schedule, seed: int, epoch: int
    ) -> Iterator[np.ndarray]:
        """Give the row numbers of each batch of an epoch, as many as `schedule.batches` would.

        A file's rows come in a random order, all of them before any comes again.
        """
        random = np.random.default_rng((seed, epoch))
        decks = [_Deck(np.flatnonzero(self.file == n), random) for n in range(len(self.names))]
        size, left = schedule.batch_size, len(lengths)
        while left:
            count = min(left, size * BUCKET_BATCHES)
            left -= count
            numbers = _divided(count, self.shares)
            rows = np.concatenate([deck.draw(n) for deck, n in zip(decks, numbers, strict=True)])
            random.shuffle(rows)  # so that batches of one length hold files in no order
            self.state[1] += torch.from_numpy(numbers.astype(np.float64))
            found = of_like_length(rows, lengths, size)
            for index in random.permutation(len(found)):
                yield found[index]

    def as_json(self) -> Json:
        """Give it as a step's decisions: the share of each file up to the epoch that was kept."""
        drawn = self.state[1].numpy()
        found: Json = {"drawn": _by_name(self.names, drawn / max(drawn.sum(), 1.0))}
        if self.balance.compares:
            found["gap"] = _by_name(self.names, self.state[0].numpy())
        return {"balance": found}


class _Deck:
    """Rows that are drawn one by one, and shuffled anew when none is left."""

    def __init__(self, rows: np.ndarray, random: np.random.Generator) -> None:
        self.rows, self.random = rows, random
        self.left = np.zeros(0, np.int64)

    def draw(self, count: int) -> np.ndarray:
        while len(self.left) < count:
            self.left = np.concatenate([self.left, self.random.permutation(self.rows)])
        found, self.left = self.left[:count], self.left[count:]
        return found


def _divided(count: int, shares: np.ndarray) -> np.ndarray:
    """Divide a number by shares, int64 (files,): the largest remainders are rounded up."""
    exact = count * shares
    whole = np.floor(exact).astype(np.int64)
    most = np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]
    whole[most] += 1
    return whole


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
