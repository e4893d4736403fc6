"""Pruning while training: heads and neurons along a schedule, and what holds a training together.

`held` is what `training.fit` trains under: zeros of a pruned model stay, a gradual plan is
followed, and at the end what was masked is cut for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.families import blocks
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.training.gradual_fields import Gradual
from edgecompress.training.importance import keep_best
from edgecompress.training.loop import StepConstraint
from edgecompress.training.sparsity import GradualMagnitude, KeptZeros
from edgecompress.training.together import current_team
from edgecompress.values import Json

MEMORY = 31 / 32
"""Of the moving average of importance: about the last 32 batches count, with 16 rows each as many
examples as `prune.structured` looks at."""


class GradualStructure:
    """Heads and neurons go along a schedule, the least important first (a `StepConstraint`).

    A mask is multiplied onto each head's output and each neuron's activation. Its gradients in
    training are what the loss says of the part: the moving average of their squares over rows is
    the diagonal of the masks' empirical Fisher information (Kwon et al., 2022), or squared Taylor
    importance (Molchanov et al., 2019). What is masked stays so, except that a layer may get some
    neurons back to keep a whole multiple.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    plan : Gradual

    Raises
    ------
    StageError
        When a layer would be left with nothing, or its matrices are products of two.
    """

    def __init__(self, module: Any, plan: Gradual) -> None:
        self.module, self.plan = module, plan
        self._blocks = list(blocks(module))
        self._heads = [_Masked(block.output_linear, block.heads) for block in self._blocks]
        self._neurons = [_Masked(block.ffn_out_linear, block.neurons) for block in self._blocks]
        heads, neurons = ([np.ones(m.parts) for m in it] for it in (self._heads, self._neurons))
        try:
            self._kept(heads, neurons, 1.0)  # says now what is impossible
        except StageError:
            self.close()
            raise
        self.tensors: Mapping[str, torch.Tensor] = {
            f"{kind}.{layer}.{what}": tensor
            for kind, found in (("heads", self._heads), ("neurons", self._neurons))
            for layer, masked in enumerate(found)
            for what, tensor in (("mask", masked.mask), ("average", masked.average))
        }

    def after_step(self, done: int, total: int) -> None:
        """Gather what this step's gradients say, and mask more parts where it is time."""
        every = [*self._heads, *self._neurons]
        squares = [masked.squares() for masked in every]
        if done <= self.plan.last(total):
            self._learn(every, squares)
        for masked in every:
            masked.wanted = done < self.plan.last(total)
        if self.plan.due(done, total):
            way = self.plan.progress(done, total)
            heads, neurons = self._kept(*self._scores(), way)
            for masked, kept in zip(every, [*heads, *neurons], strict=True):
                masked.keep(kept)

    def settled(self, done: int, total: int) -> bool:
        """Say whether all are gone that shall go."""
        return done >= self.plan.last(total)

    def close(self) -> None:
        """Take the masks off the module."""
        for masked in (*self._heads, *self._neurons):
            masked.handle.remove()

    def finish(self) -> Json:
        """Cut what is masked for good."""
        before = {
            "heads_before": [block.heads for block in self._blocks],
            "neurons_before": [block.neurons for block in self._blocks],
        }
        heads, neurons = ([m.kept() for m in found] for found in (self._heads, self._neurons))
        keep_heads_and_neurons(self.module, heads, neurons)
        return {"gradual": {"heads": heads, "neurons": [len(kept) for kept in neurons], **before}}

    def _learn(self, every: Sequence[_Masked], squares: Sequence[torch.Tensor]) -> None:
        """Take what this step said into the averages, the same in all processes."""
        flat = torch.cat(list(squares))
        team = current_team()
        if team.count > 1:
            flat = team.accelerator.reduce(flat, "mean")
        for masked, found in zip(every, flat.split([m.parts for m in every]), strict=True):
            masked.average.mul_(MEMORY).add_(found, alpha=1 - MEMORY)

    def _scores(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        if self.plan.importance == "magnitude":
            heads = [block.head_squares().cpu().numpy() for block in self._blocks]
            neurons = [block.neuron_squares().cpu().numpy() for block in self._blocks]
        else:
            heads = [masked.average.cpu().numpy() for masked in self._heads]
            neurons = [masked.average.cpu().numpy() for masked in self._neurons]
        return (
            [_without(scores, m) for scores, m in zip(heads, self._heads, strict=True)],
            [_without(scores, m) for scores, m in zip(neurons, self._neurons, strict=True)],
        )

    def _kept(
        self, heads: Sequence[np.ndarray], neurons: Sequence[np.ndarray], way: float
    ) -> tuple[list[list[int]], list[list[int]]]:
        plan = self.plan
        multiple = plan.multiple_of if plan.ffn else 1
        return (
            keep_best(heads, plan.heads * way, "gradual heads"),
            keep_best(neurons, plan.ffn * way, "gradual ffn", multiple),
        )


class Held:
    """Several regulations as one.

    Parameters
    ----------
    own : sequence
        Those that have something to finish: `GradualStructure`, `GradualMagnitude`, `KeptZeros`.
    constraint : StepConstraint or None
        A further one, asked last.
    """

    def __init__(self, own: Sequence[Any], constraint: StepConstraint | None) -> None:
        self.own = own
        self.parts: Sequence[StepConstraint] = own if constraint is None else [*own, constraint]
        self.tensors: Mapping[str, torch.Tensor] = {
            f"{index}.{name}": tensor
            for index, part in enumerate(self.parts)
            for name, tensor in part.tensors.items()
        }

    def after_step(self, done: int, total: int) -> None:
        """Ask all of them, in their order."""
        for part in self.parts:
            part.after_step(done, total)

    def settled(self, done: int, total: int) -> bool:
        """Say whether all of them are."""
        return all(part.settled(done, total) for part in self.parts)

    def finish(self) -> Json:
        """Cut what was pruned, or mark it so that its zeros stay, and tell what was decided.

        To be called when the training is over and the module is whole again.
        """
        found: Json = {}
        for part in self.own:
            found |= part.finish()
        return found


@contextmanager
def held(module: Any, plan: Gradual | None, constraint: StepConstraint | None) -> Iterator[Held]:
    """Give what to train under: zeros stay and `plan` is followed; call its `finish` after that.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Masks are on it while inside.
    plan : Gradual or None
    constraint : StepConstraint or None
        A further one, asked last.

    Raises
    ------
    StageError
        When the plan does not fit the module.
    """
    own: list[Any] = []
    if plan is not None:
        own.append((GradualStructure if plan.structured else GradualMagnitude)(module, plan))
    own.append(KeptZeros(module))
    try:
        yield Held(own, constraint)
    finally:
        for part in own:
            if isinstance(part, GradualStructure):
                part.close()


class _Masked:
    """A mask on the parts of a linear layer's input, and the average of its squared gradients."""

    def __init__(self, linear: nn.Linear, parts: int) -> None:
        self.parts = parts
        self.mask = torch.ones(parts, device=linear.weight.device)
        self.average = torch.zeros(parts, device=linear.weight.device)
        self.wanted = True
        self.handle = linear.register_forward_pre_hook(self._hook)
        self._given: list[torch.Tensor] = []  # a leaf for each forward pass of the step

    def squares(self) -> torch.Tensor:
        """Give the mean squared gradient of this step's rows, float32 (parts,), and forget it."""
        gradients = [leaf.grad for leaf in self._given if leaf.grad is not None]
        self._given.clear()
        if not gradients:
            return torch.zeros_like(self.average)
        # The loss is a mean over the batch: a row's own gradient is that times the rows.
        rows = torch.cat([g.float().view(len(g), -1) * len(g) for g in gradients])
        return rows.square().mean(0)

    def keep(self, kept: Sequence[int]) -> None:
        """Let these parts through and no others."""
        self.mask.zero_()
        self.mask[torch.as_tensor(kept)] = 1.0

    def kept(self) -> list[int]:
        """Give the indices of the parts that are let through, ascending."""
        return [int(index) for index in torch.nonzero(self.mask).flatten()]

    def _hook(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        given, *rest = inputs
        batch, length, width = given.shape
        mask = self.mask.to(given.device, given.dtype).view(1, 1, -1, 1)
        if self.wanted and torch.is_grad_enabled():
            mask = mask.expand(batch, 1, -1, 1).clone().requires_grad_(True)
            self._given.append(mask)
        masked = given.view(batch, length, self.parts, -1) * mask
        return (masked.view(batch, length, width), *rest)


def _without(scores: np.ndarray, masked: _Masked) -> np.ndarray:
    """Rank what is gone behind everything that is there."""
    found = np.asarray(scores, dtype=np.float64).copy()
    found[masked.mask.cpu().numpy() == 0] = -1.0
    return found
