"""Least squares for a layer over more tokens, or places of images, than fit into memory."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.surgery.sparsity import keeps_zeros
from edgecompress.training.sparsity import least_squares_within


class Normal:
    """The normal equations of a linear layer's correction, gathered in float64.

    Minimized is ``sum |x D + d - r|² + ridge · mean(diag) · |D|²`` over the correction ``D`` of the
    weight and ``d`` of the bias; ``r`` is what the layer's output lacks.

    Parameters
    ----------
    inputs, outputs : int
    intercept : bool
        Whether there is a bias; without one ``d`` is 0.
    """

    def __init__(self, inputs: int, outputs: int, intercept: bool = True) -> None:
        self.intercept = intercept
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.cross = torch.zeros(inputs + 1, outputs, dtype=torch.float64)
        self.lacking = 0.0

    def add(self, x: torch.Tensor, lack: torch.Tensor) -> None:
        """Add tokens: their inputs, float (tokens, inputs), and what their outputs lack."""
        last = torch.full((len(x), 1), float(self.intercept))
        wide = torch.cat([x, last], dim=1).double()
        lack = lack.double()
        self.gram += wide.T @ wide
        self.cross += wide.T @ lack
        self.lacking += float(lack.square().sum())

    def solve(
        self, ridge: float, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the corrections of weight and bias, float64 (outputs, inputs) and (outputs,).

        Only the weights that are `kept`, bool (outputs, inputs), are corrected.
        """
        gram = self.gram.clone()
        if not self.intercept:
            gram[-1, -1] = 1
        inputs = len(gram) - 1
        scale = float(gram.diagonal()[:-1].mean()) if inputs else 0.0
        # A little is always added: a neuron that no token excites has no equation of its own.
        gram.diagonal()[:-1] += max(ridge, 1e-9) * max(scale, 1e-30)
        if kept is None:
            found = torch.linalg.solve(gram, self.cross)
        else:
            free = torch.cat([kept.T, torch.ones_like(kept.T[:1])])
            found = least_squares_within(gram, self.cross, free)
        return found[:-1].T.contiguous(), found[-1]

    def left(self, weight: torch.Tensor, bias: torch.Tensor) -> float:
        """Give the squared error that is left on the tokens that were added."""
        found = torch.cat([weight.T, bias[None]])
        lack = self.lacking - 2 * (found * self.cross).sum() + (found * (self.gram @ found)).sum()
        return max(0.0, float(lack))


def correct(
    linear: nn.Linear | nn.Conv1d | nn.Conv2d, normal: Normal, ridge: float
) -> tuple[float, float]:
    """Add the least-squares correction to a layer; give the squared error before and after."""
    free = linear.weight.flatten(1) != 0 if keeps_zeros(linear) else None
    weight, bias = normal.solve(ridge, free)
    with torch.no_grad():
        linear.weight += weight.float().view_as(linear.weight)
        if linear.bias is not None:
            linear.bias += bias.float()
    return normal.lacking, normal.left(weight, bias)
