"""The importance of each part: one number, higher is more important."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.surgery.families import blocks
from edgecompress.surgery.hidden import WRITES, hidden_size
from edgecompress.training.importance.gradients import MaskGradients, Tick, mask_gradients
from edgecompress.training.rows import TorchRows


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of each layer's heads and neurons.

    Comparable over all layers of a kind; that by `fisher` also between heads and neurons.

    Attributes
    ----------
    heads, neurons : list of numpy.ndarray
        float64 (heads,) and (neurons,) per layer, higher is more important.
    hidden : numpy.ndarray or None
        float64 (channels,), where it was asked for.
    """

    heads: list[np.ndarray]
    neurons: list[np.ndarray]
    hidden: np.ndarray | None = None


def squared(gradients: MaskGradients) -> Importance:
    """Sum the squares over the rows: the diagonal of the masks' Fisher information.

    Half of it is, to second order, what removing the part adds to the loss: at a trained model the
    first-order term is small and the Hessian is near the Fisher information (Kwon et al., 2022,
    section 4.1).
    """
    hidden = gradients.hidden
    return Importance(
        [_squares(layer) for layer in gradients.heads],
        [_squares(layer) for layer in gradients.neurons],
        None if hidden is None else _squares(hidden),
    )


def taylor(module: Any, rows: TorchRows, tick: Tick) -> Importance:
    """Squared first-order Taylor importance: the squared change of each example's loss, summed.

    Source: Molchanov et al., 2019, "Importance estimation for neural network pruning"; Michel et
    al., 2019, for heads.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labelled.
    tick : callable
        Told the number of rows done.
    """
    return squared(mask_gradients(module, rows, tick))


def fisher(module: Any, rows: TorchRows, tick: Tick, seed: int = 0) -> Importance:
    """Diagonal Fisher information of the masks, by answers drawn from the model's own.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labels are not looked at, only where there are some.
    tick : callable
        Told the number of rows done.
    seed : int
        Of the answers that are drawn.
    """
    return squared(mask_gradients(module, rows, tick, labels="model", seed=seed))


def magnitude(module: Any) -> Importance:
    """Sum of the squared weights that belong to each head, neuron and channel; needs no data."""
    found = list(blocks(module))
    hidden = torch.zeros(hidden_size(module), dtype=torch.float64)
    with torch.no_grad():
        for block in found:
            for role in block.family.roles:
                reads = role not in WRITES
                hidden += block.part(role).weight.double().square().sum(0 if reads else 1)
    return Importance(
        [block.head_squares().numpy() for block in found],
        [block.neuron_squares().numpy() for block in found],
        hidden.numpy(),
    )


def _squares(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.square(values, dtype=np.float64).sum(0)
    return found
