"""Rows whose hidden pieces are drawn anew each epoch, and answers only where one is hidden.

What is hidden depends on nothing but the seed, the epoch and the row's number, so that a resumed
training hides what an unbroken one would have hidden.

Source: Devlin et al., 2019, "BERT" (15 % of the pieces: 80 % of them become the mask token, 10 %
another piece, 10 % stay); new masks each epoch after Liu et al., 2019, "RoBERTa".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from edgecompress.tasks.masked_lm import compact_logits, mask_id
from edgecompress.tasks.rows import IGNORED, stacked
from edgecompress.training.loop import autocast
from edgecompress.training.masking_fields import Masking
from edgecompress.training.rows import TorchRows, even_batches

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
    """Rows of the task masked-lm."""

    masking: Masking = field(default_factory=Masking)
    mask_state: MaskState = field(default_factory=MaskState)

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs with what is hidden in this epoch, int64 (batch, length) each."""
        found = super().feed(rows)
        ids = found["input_ids"]
        places = []
        for place, number in enumerate(np.asarray(rows).tolist()):
            row, label = self.masked(number)
            ids[place, : len(row)] = torch.from_numpy(row)
            places.append(place * ids.shape[1] + np.flatnonzero(label != IGNORED))
        if self.mask_state.narrow:
            self.mask_state.places = torch.from_numpy(np.concatenate(places))
        return found

    def targets(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        """Give the hidden pieces: int64 (batch, length), or (1, hidden) while `reading`."""
        labels = [self.masked(number)[1] for number in numbers]
        if self.mask_state.narrow:
            every = np.concatenate(labels)
            return {"labels": every[every != IGNORED][None]}
        return {"labels": stacked(labels)}

    def masked(self, number: int) -> tuple[Ids, Ids]:
        """Give a row with its hidden pieces, and these pieces: int64 (length,) each."""
        row, label = self.rows[number].feed["input_ids"], self.rows[number].target["labels"]
        if self.mask_state.epoch is None:
            return row, label
        whole = np.where(label != IGNORED, label, row)
        at = self.rows[number].place["positions"]
        random = np.random.default_rng((self.mask_state.seed, self.mask_state.epoch, number))
        chosen = at[self._chosen(self.rows[number].place["words"], random)]
        label = np.full_like(whole, IGNORED)
        label[chosen] = whole[chosen]
        fate = random.random(len(chosen))
        other = self._pieces[random.integers(len(self._pieces), size=len(chosen))]
        masked = whole.copy()
        masked[chosen] = np.where(
            fate < 0.8, mask_id(self.processor), np.where(fate < 0.9, other, whole[chosen])
        )
        return masked, label

    def _chosen(self, words: Ids, random: np.random.Generator) -> Ids:
        """Choose pieces to hide, as numbers of them, rising; none of a row without pieces."""
        count = min(len(words), max(1, round(self.masking.share * len(words))))
        if not self.masking.whole_words:
            return np.sort(random.choice(len(words), size=count, replace=False))
        order = random.permutation(np.unique(words))
        sizes = np.array([int((words == word).sum()) for word in order], dtype=np.int64)
        taken = int(np.searchsorted(np.cumsum(sizes), count)) + 1
        return np.flatnonzero(np.isin(words, order[:taken]))

    @property
    def _pieces(self) -> Ids:
        """Ids of pieces that may stand for another one: no special tokens, int64."""
        if "pieces" not in self.__dict__:
            added = self.processor.tokenizer.get_added_tokens_decoder()
            special = [number for number, token in added.items() if token.special]
            every = np.arange(self.processor.vocabulary_size)
            object.__setattr__(self, "pieces", np.setdiff1d(every, special))
        found: Ids = self.__dict__["pieces"]
        return found

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
        """Give what `MaskedLM.decode` reads of each row's logits, float64 (hidden, 2)."""
        found: list[np.ndarray] = [np.zeros((0, 2))] * len(self)
        device = next(module.parameters()).device
        done = 0
        with self.reading(module), torch.inference_mode():
            for batch in even_batches(self.lengths):
                feed = {name: tensor.to(device) for name, tensor in self.feed(batch).items()}
                with autocast() if fast else nullcontext():
                    logits = module(**feed).logits[0].float().cpu().numpy()
                labels = [label[label != IGNORED] for label in self._labels(batch)]
                kept = compact_logits(logits, np.concatenate(labels))
                ends = np.cumsum([len(label) for label in labels])
                for row, part in zip(batch.tolist(), np.split(kept, ends[:-1]), strict=True):
                    found[row] = part
                done += len(batch)
                if tick is not None:
                    tick(done)
        return found

    def _labels(self, batch: Ids) -> list[Ids]:
        return [self.masked(number)[1] for number in batch.tolist()]


def only(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Take some places of a padded batch: float (batch, length, width) → (1, places, width)."""
    return states.flatten(0, 1).index_select(0, places.to(states.device))[None]


def hiding(rows: TorchRows, masking: Masking) -> TorchRows:
    """Let rows hide pieces in this way; rows of other tasks hide none."""
    return replace(rows, masking=masking) if isinstance(rows, MaskedRows) else rows
