"""A model run block by block over kept hidden states, whatever its family.

A block's place is taken by one that gives back the states that were kept behind it, so that
everything before it is not computed again; embeddings, masks and the head are the model's own
affair, and no calling convention of a block has to be known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.surgery.families import family_of, layer_list
from edgecompress.training.rows import TorchRows


class Kept(nn.Module):
    """Stands for all blocks before: gives `states`, whatever it is given."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.states: Any = None
        # What transformers 5 reads from a block, to choose the mask that it gives it.
        self.attention_type: Any = getattr(block, "attention_type", None)

    def forward(self, *_: Any, **__: Any) -> Any:
        """Give the states that were kept."""
        return self.states


class EnoughError(Exception):
    """Raised inside a forward pass to end it: what was wanted is there."""


@contextmanager
def only_these(module: Any, layers: Sequence[nn.Module]) -> Iterator[None]:
    """While inside, `module` runs `layers` instead of its own blocks."""
    there = layer_list(module)
    parent, _, name = family_of(module.config).layers.rpartition(".")
    holder = module.base_model.get_submodule(parent)
    setattr(holder, name, nn.ModuleList(layers))
    try:
        yield
    finally:
        setattr(holder, name, there)


class StepwiseRunner:
    """Runs some blocks of a module over all batches of rows.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Its weights may change between runs.
    rows : TorchRows
    """

    def __init__(self, module: Any, rows: TorchRows) -> None:
        self.module = module
        self.rows = rows
        self.batches = rows.batches
        self.layers = list(layer_list(module))

    def real(self, batch: np.ndarray, feed: dict[str, torch.Tensor], length: int) -> torch.Tensor:
        """Tell which tokens of a batch are no padding, bool (batch, length).

        Of text; the patches of images are all there.
        """
        if "input_ids" not in feed:
            return torch.ones(len(batch), length, dtype=torch.bool)
        length = feed["input_ids"].shape[1]
        lengths = torch.as_tensor(self.rows.lengths[batch])
        return torch.arange(length)[None, :] < lengths[:, None]

    def run(
        self, blocks: Sequence[int], before: Sequence[Any] | None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor, Any]]:
        """Run `blocks` on the states `before` them, or from the embeddings where that is None.

        Parameters
        ----------
        blocks : sequence of int
        before : sequence or None
            What the block before gave, one entry for each batch.

        Yields
        ------
        tuple
            For each batch its rows, int64 (batch,), which tokens are real, bool (batch, length),
            and the module's output; None where a hook has ended the pass with `EnoughError`.
        """
        stub = Kept(self.layers[0])
        layers = [*([stub] if before is not None else []), *(self.layers[i] for i in blocks)]
        for number, batch in enumerate(self.batches):
            feed = self.rows.feed(batch)
            output = None
            lengths: list[int] = []
            seen = partial(_length, lengths)
            handles = [one.register_forward_pre_hook(seen, with_kwargs=True) for one in layers[:1]]
            with only_these(self.module, layers), torch.inference_mode(), suppress(EnoughError):
                stub.states = before[number] if before is not None else None
                output = self.module(**feed)
            for handle in handles:
                handle.remove()
            yield batch, self.real(batch, feed, next(iter(lengths), 0)), output


def _length(found: list[int], _: nn.Module, given: Any, named: dict[str, Any]) -> None:
    """Note how many tokens come into a block, as a hook before it."""
    states = given[0] if given else named["hidden_states"]
    found.append(int(states.shape[1]))


def states_of(given: Any) -> torch.Tensor:
    """Give the hidden states of what a block gave back: itself, or the first of a tuple."""
    found: torch.Tensor = given[0] if isinstance(given, tuple) else given
    return found
