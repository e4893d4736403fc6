"""Zeros that stay zero while everything else is trained, and zeros that become more on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgecompress.surgery.magnitude import choose_zeros, prunable
from edgecompress.surgery.patterns import read_pattern
from edgecompress.surgery.sparsity import mark, marked, shares
from edgecompress.training.gradual_fields import Gradual
from edgecompress.values import Json


class KeptZeros:
    """Holds the zeros of a module's marked matrices (a `training.loop.StepConstraint`).

    The optimizer may move a zero in its step, by momentum if not by a gradient; it is set back
    before anything is computed with it. Which entries are zero is read when training begins, so
    that there is no state to save.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        As `surgery.sparsity.mark` left it.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.tensors: Mapping[str, torch.Tensor] = {}
        self._held = [(part.weight, _Zeros(part.weight == 0)) for part in marked(module).values()]

    def after_step(self, done: int, total: int) -> None:  # noqa: ARG002
        """Set the zeros back."""
        for weight, zeros in self._held:
            zeros.set_in(weight)

    def settled(self, done: int, total: int) -> bool:  # noqa: ARG002
        """Say that every state will do."""
        return True

    def finish(self) -> Json:
        """Count what is zero in these matrices, once the module is whole again."""
        if not self._held:
            return {}
        found = shares(self.module)
        return {"kept_zeros": {key: found[key] for key in ("weights", "zeros", "sparsity")}}


class GradualMagnitude:
    """Single weights go along a schedule, those of least magnitude first (a `StepConstraint`).

    What is zero once stays so. Source: Zhu & Gupta, 2017.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    plan : Gradual

    Raises
    ------
    StageError
        When a matrix cannot be pruned so at all.
    """

    def __init__(self, module: Any, plan: Gradual) -> None:
        self.module, self.plan = module, plan
        self._parts = prunable(module, plan.matrices)
        self._pattern = read_pattern(plan.pattern)
        weights = self._weights()
        choose_zeros(weights, plan.wanted, self._pattern, plan.scope)  # says now what is impossible
        self._zeros = {name: _Zeros(weight == 0) for name, weight in weights.items()}
        self.tensors: Mapping[str, torch.Tensor] = {
            f"zeros.{name}": zeros.state for name, zeros in self._zeros.items()
        }
        count = sum(weight.numel() for weight in weights.values())
        self._initial = sum(int(zeros.state.sum()) for zeros in self._zeros.values()) / count

    def after_step(self, done: int, total: int) -> None:
        """Make more weights zero where it is time, and set the zeros back."""
        self._set()  # before ranking, too: the optimizer has moved zeros
        if self.plan.due(done, total):
            way = self.plan.progress(done, total)
            share = self._initial + max(0.0, self.plan.wanted - self._initial) * way
            chosen = choose_zeros(self._weights(), share, self._pattern, self.plan.scope)
            for name, zeros in chosen.items():
                self._zeros[name].state |= zeros.to(self._zeros[name].state.device)
            self._set()

    def settled(self, done: int, total: int) -> bool:
        """Say whether all are gone that shall go."""
        return done >= self.plan.last(total)

    def finish(self) -> Json:
        """Mark the matrices, so that later trainings keep the zeros, and tell the shares."""
        for part in self._parts.values():
            mark(part)
        return {"gradual": shares(self.module)}

    def _set(self) -> None:
        for name, zeros in self._zeros.items():
            zeros.set_in(self._parts[name].weight)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: part.weight.detach() for name, part in self._parts.items()}


class _Zeros:
    """A mask of zeros; where the weight lies on another device, with a copy there.

    `state` may be changed in place (a resumed training reads it from disk): PyTorch counts the
    changes, so the copy is renewed.
    """

    def __init__(self, state: torch.Tensor) -> None:
        self.state = state
        self._copy: tuple[int, torch.Tensor] = (-1, state)

    def set_in(self, weight: torch.Tensor) -> None:
        """Set the zeros in a weight, in place."""
        if self.state.device == weight.device:
            there = self.state
        else:
            if self._copy[0] != self.state._version or self._copy[1].device != weight.device:
                self._copy = (self.state._version, self.state.to(weight.device))
            there = self._copy[1]
        with torch.no_grad():
            weight.masked_fill_(there, 0.0)


def least_squares_within(
    gram: torch.Tensor, cross: torch.Tensor, kept: torch.Tensor, steps: int = 50
) -> torch.Tensor:
    """Solve ``gram @ x = cross`` where only some entries of ``x`` may differ from zero.

    Conjugate gradients (Hestenes & Stiefel, 1952), all columns at once: each step brings the
    squared error down, so that the result is never worse than zeros.

    Parameters
    ----------
    gram : torch.Tensor
        Positive definite, (inputs, inputs).
    cross : torch.Tensor
        (inputs, outputs).
    kept : torch.Tensor
        bool (inputs, outputs): the entries that may.
    steps : int

    Returns
    -------
    torch.Tensor
        (inputs, outputs).
    """
    least = torch.finfo(cross.dtype).tiny
    found = torch.zeros_like(cross)
    rest = cross * kept
    way, size = rest.clone(), rest.square().sum(0)
    for _ in range(steps):
        ahead = (gram @ way) * kept
        length = size / (way * ahead).sum(0).clamp(min=least)
        found += length * way
        rest -= length * ahead
        before, size = size, rest.square().sum(0)
        way = rest + size / before.clamp(min=least) * way
    return found
