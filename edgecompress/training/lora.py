"""Low-rank adaptation: matrices stay as they are, and products beside them are trained.

A linear layer gives ``W x + alpha / rank · up (down x)``; only `down` and `up` are trained, and at
the end their product is added to ``W``, so that nothing of it is left in the model. Where zeros of
``W`` must stay, what is added to them is zero in training as at the end.

Source: Hu et al., 2022, "LoRA: low-rank adaptation of large language models".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgecompress.surgery.families import blocks
from edgecompress.surgery.low_rank import LowRankLinear
from edgecompress.surgery.magnitude import prunable
from edgecompress.surgery.sparsity import keeps_zeros
from edgecompress.training.lora_fields import Lora


class _Adapted(nn.Linear):
    """A linear layer with a product beside its matrix; `adapted` makes one of a plain layer.

    The layer stays the object that it was, so that whoever watches it sees all that it gives.
    """

    down: nn.Parameter
    up: nn.Parameter
    share: float

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if keeps_zeros(self):
            return functional.linear(x, self.weight + self.added(), self.bias)
        inner = functional.linear(x, self.down * self.share)
        return super().forward(x) + functional.linear(inner, self.up)

    def added(self) -> torch.Tensor:
        """Give what is added to the matrix, (out, in)."""
        found = self.share * (self.up @ self.down)
        return found * (self.weight != 0) if keeps_zeros(self) else found


@contextmanager
def adapted(module: Any, lora: Lora | None, seed: int) -> Iterator[None]:
    """While inside, products beside the linear layers are trained, and the head; then merged.

    The head is what lies behind the body, without a matrix for the pieces of a vocabulary.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    lora : Lora or None
        None: everything is trained, as it is.
    seed : int
        Of the products' first values; what they add is zero at first.

    Raises
    ------
    StageError
        When `only` names a part that the family lacks.
    """
    if lora is None:
        yield
        return
    wanted = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    pieces = module.get_output_embeddings()
    kept = {id(parameter) for parameter in module.base_model.parameters()}
    kept |= {id(parameter) for parameter in pieces.parameters()} if pieces is not None else set()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) not in kept)
    generator = torch.Generator().manual_seed(seed)
    layers = _layers(module, lora)
    for layer in layers:
        size, device = layer.in_features, layer.weight.device
        first = torch.empty(lora.rank, size).uniform_(-1, 1, generator=generator) / size**0.5
        layer.down = nn.Parameter(first.to(device))
        layer.up = nn.Parameter(torch.zeros(layer.out_features, lora.rank, device=device))
        layer.share = lora.alpha / lora.rank
        layer.__class__ = _Adapted
    try:
        yield
    finally:
        for layer in layers:
            with torch.no_grad():
                layer.weight += layer.added()
            layer.__class__ = nn.Linear
            del layer.down, layer.up, layer.share
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(wanted[name])


def _layers(module: Any, lora: Lora) -> list[Any]:
    """Give the plain linear layers that are adapted, of a product both."""
    if not lora.only:
        return list(prunable(module, ("linear",)).values())
    named = [block.linear(role) for block in blocks(module) for role in lora.only]
    return [
        each
        for one in named
        for each in ((one.first, one.second) if isinstance(one, LowRankLinear) else (one,))
    ]
