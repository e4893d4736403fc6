"""Rows of which each epoch asks something else (hidden pieces), and answers only where it asks.

What is drawn depends on nothing but the seed, the epoch and the row's number, so that a resumed
training hides what an unbroken one would have hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from edgecompress.tasks import Row
from edgecompress.tasks.rows import IGNORED, stacked
from edgecompress.training.devices import autocast
from edgecompress.training.masking_fields import Masking
from edgecompress.training.rows import TorchRows

Ids = np.ndarray


@dataclass
class MaskState:
    """What changes from epoch to epoch and batch to batch: the one mutable part of `MaskedRows`.

    Attributes
    ----------
    epoch : int or None
        None: the fixed masks by which a model is scored.
    seed : int
    places : torch.Tensor or None
        int64: hidden places of the batch that was fed last, counted over the padded batch, until
        the module has read them.
    narrow : bool
        Whether the module answers only there.
    """

    epoch: int | None = None
    seed: int = 0
    narrow: bool = False
    places: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class MaskedRows(TorchRows):
    """Rows of a task that `redraws`."""

    masking: Masking = field(default_factory=Masking)
    mask_state: MaskState = field(default_factory=MaskState)

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs with what is hidden in this epoch, (batch, length) each."""
        drawn = [self.drawn(number) for number in np.asarray(rows).tolist()]
        length = self.length(rows)
        found = self.fed(drawn, length)
        if self.mask_state.narrow:
            places = [
                place * length + np.flatnonzero(row.target["labels"] != IGNORED)
                for place, row in enumerate(drawn)
            ]
            self.mask_state.places = torch.from_numpy(np.concatenate(places))
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def targets(self, numbers: Sequence[int], length: int = 0) -> dict[str, np.ndarray]:
        """Give the hidden pieces: int64 (batch, length), or (1, hidden) while `reading`."""
        labels = [self.drawn(number).target["labels"] for number in numbers]
        if self.mask_state.narrow:
            every = np.concatenate(labels)
            return {"labels": every[every != IGNORED][None]}
        return {"labels": stacked(labels, length)}

    def drawn(self, number: int) -> Row:
        """Give a row as this epoch asks it (`Task.redrawn`)."""
        row, state = self.rows[number], self.mask_state
        if state.epoch is None:
            return row
        random = np.random.default_rng((state.seed, state.epoch, number))
        return self.task.redrawn(row, self.processor, random, self.masking)

    def begin(self, epoch: int, seed: int) -> None:
        """Draw what is hidden anew."""
        self.mask_state.epoch, self.mask_state.seed = epoch, seed

    @contextmanager
    def reading(self, module: Any) -> Iterator[None]:
        """While inside, `module` answers only the hidden places of the batch fed last.

        Its head, whose matrix has a row for each piece of the vocabulary, costs more than several
        layers, and is asked for 15 % of the places. Logits are (1, hidden, pieces); hidden states
        stay whole.
        """

        def only_hidden(_part: Any, _given: Any, output: Any) -> Any:
            places, self.mask_state.places = self.mask_state.places, None
            # None while other rows are fed to the module, such as those that it is scored on.
            if places is not None:
                output.last_hidden_state = only(output.last_hidden_state, places)
            return output

        handle = module.base_model.register_forward_hook(only_hidden)
        self.mask_state.narrow = True
        try:
            yield
        finally:
            handle.remove()
            self.mask_state.narrow, self.mask_state.places, self.mask_state.epoch = (
                False,
                None,
                None,
            )

    def outputs(
        self, module: Any, fast: bool = False, tick: Callable[[int], None] | None = None
    ) -> list[np.ndarray]:
        """Give what the task's `decode` reads of each row's logits, float64 (hidden, 2)."""
        found: list[np.ndarray] = [np.zeros((0, 2))] * len(self)
        device = next(module.parameters()).device
        done = 0
        with self.reading(module), torch.inference_mode():
            for batch in self.batches:
                feed = {name: tensor.to(device) for name, tensor in self.feed(batch).items()}
                with autocast() if fast else nullcontext():
                    logits = module(**feed).logits[0].float().cpu().numpy()
                every = [self.drawn(number).target["labels"] for number in batch.tolist()]
                labels = [label[label != IGNORED] for label in every]
                kept = self.task.compact_at(logits, np.concatenate(labels))
                ends = np.cumsum([len(label) for label in labels])
                for row, part in zip(batch.tolist(), np.split(kept, ends[:-1]), strict=True):
                    found[row] = part
                done += len(batch)
                if tick is not None:
                    tick(done)
        return found


def only(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Take some places of a padded batch: float (batch, length, width) → (1, places, width)."""
    return states.flatten(0, 1).index_select(0, places.to(states.device))[None]


def hiding(rows: TorchRows, masking: Masking) -> TorchRows:
    """Let rows hide pieces in this way; rows of other tasks hide none."""
    return replace(rows, masking=masking) if isinstance(rows, MaskedRows) else rows
