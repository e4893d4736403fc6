"""What comes into a module's linear layers when it reads texts: means and second moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.surgery.factorizing import Moments
from edgecompress.tasks.rows import input_ids
from edgecompress.training.rows import TorchRows


def input_moments(
    module: Any, rows: TorchRows, linears: Mapping[str, nn.Module], tick: Callable[[int], None]
) -> dict[str, Moments]:
    """Gather the moments of the inputs of some layers over all tokens that are no padding.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labels are not looked at.
    linears : mapping of str to torch.nn.Module
        Layers of `module`, each taking (batch, length, in), by a name.
    tick : callable
        Told the number of rows done.

    Returns
    -------
    dict of str to Moments
        By the same names.
    """
    sums = {name: _Sums() for name in linears}
    _read(module, rows, linears, sums, tick)
    return {name: one.moments() for name, one in sums.items()}


def input_sizes(
    module: Any, rows: TorchRows, linears: Mapping[str, nn.Module], tick: Callable[[int], None]
) -> dict[str, torch.Tensor]:
    """Gather the root mean squares of the inputs of some layers, float32 (in,) by their names.

    Takes what `input_moments` takes; zeros for a layer that does not run.
    """
    sums = {name: _Squares(linear) for name, linear in linears.items()}
    _read(module, rows, linears, sums, tick)
    return {name: (one.total / max(1, one.count)).sqrt().float() for name, one in sums.items()}


def _read(
    module: Any,
    rows: TorchRows,
    linears: Mapping[str, nn.Module],
    sums: Mapping[str, Any],
    tick: Callable[[int], None],
) -> None:
    done = 0
    with ExitStack() as stack, torch.inference_mode():
        for name, linear in linears.items():
            stack.callback(linear.register_forward_pre_hook(sums[name].read).remove)
        for batch in rows.batches:
            feed = rows.feed(batch)
            mask = feed.get("attention_mask")  # images have none
            for one in sums.values():
                one.mask = mask.bool() if mask is not None else None
            module(**feed)
            done += len(batch)
            tick(done)


def token_counts(rows: TorchRows, vocabulary: int) -> np.ndarray:
    """Count how often each piece occurs in encoded rows, float64 (vocabulary,)."""
    counts = np.zeros(vocabulary)
    for ids in input_ids(rows):
        np.add.at(counts, np.asarray(ids), 1)
    return counts


def _tokens(given: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Give the inputs (tokens, in) that are no padding; a pooler is given one token of a row."""
    if given.ndim == 2:
        return given
    return given.flatten(0, -2) if mask is None else given[mask]


class _Sums:
    """Sums over the inputs of one layer, as a forward hook."""

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None
        self.count = 0
        self.first: torch.Tensor | float = 0.0
        self.second: torch.Tensor | float = 0.0

    def read(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tokens = _tokens(inputs[0], self.mask)
        self.count += len(tokens)
        self.first = self.first + tokens.double().sum(0)
        self.second = self.second + (tokens.T @ tokens).double()

    def moments(self) -> Moments:
        # Out of inference mode, so that what is computed from them may be trained.
        first, second = torch.as_tensor(self.first), torch.as_tensor(self.second)
        return Moments(first.clone() / self.count, second.clone() / self.count)


class _Squares:
    """Sums of the squared inputs of one layer, as a forward hook."""

    def __init__(self, linear: Any) -> None:
        self.mask: torch.Tensor | None = None
        self.count = 0
        self.total = torch.zeros(linear.in_features, dtype=torch.float64)

    def read(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tokens = _tokens(inputs[0], self.mask)
        self.count += len(tokens)
        self.total = self.total + tokens.double().square().sum(0)
