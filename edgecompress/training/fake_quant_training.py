"""Quantization-aware training: what rounds a module while it is trained, and learns its ranges.

Nothing of the module is replaced: linear layers get another `forward` and embeddings a hook for as
long as the training takes, so that names, weights and what else holds on to them (masks, the rows
in use, captured states) stay as they are.

Layers that are given the same tensor (query, key and value) share a range, as they do in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.training.devices import moved
from edgecompress.training.embedding import UsedRows
from edgecompress.training.fake_quant import (
    fake_block_rows,
    fake_linear,
    fake_rows,
    fitting_block,
)
from edgecompress.training.gradual import Held
from edgecompress.training.loop import StepConstraint
from edgecompress.training.qat_fields import Qat
from edgecompress.training.rows import TorchRows
from edgecompress.training.together import current_team
from edgecompress.values import Json
from edgecompress.words import meant


class FakeQuantized:
    """Rounds a module's linear layers and tables (a `training.loop.StepConstraint`).

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Its layers round while this is not closed.
    plan : Qat
    rows : TorchRows
        What it is trained on.
    seed : int
        Chooses the rows that ranges are calibrated on.

    Raises
    ------
    StageError
        When `exclude` names no module, or an activation is not finite.
    """

    def __init__(self, module: Any, plan: Qat, rows: TorchRows, seed: int) -> None:
        self.module, self.plan = module, plan
        self._device = next(module.parameters()).device
        self._rows, self._seed = rows, seed
        _check_excluded(module, plan)
        rows.begin(0, seed)
        self._groups = self._trace() if plan.linears else []
        self._on = torch.zeros(1, dtype=torch.int64)
        self.tensors: dict[str, torch.Tensor] = {"on": self._on}
        self._base = torch.zeros(len(self._groups), 2, device=self._device)
        self._shift: torch.Tensor | None = None
        if plan.activations:
            self.tensors["base"] = self._base
        if plan.activations and plan.ranges == "learned":
            # One axis: the optimizer lets only matrices decay.
            self._shift = torch.zeros(2 * len(self._groups), device=self._device)
            self.tensors["shift"] = self._shift.requires_grad_()
        self._handles: list[Any] = []
        self._changed: list[nn.Module] = []
        self._tables: list[str] = []
        self._put_on()
        if plan.start == 0:
            self._begin()

    def after_step(self, done: int, total: int) -> None:
        """Begin to round where it is time."""
        if not self._on and done >= max(1, self.plan.first(total)):
            self._begin()

    def settled(self, done: int, total: int) -> bool:
        """Say whether it rounds, and has been trained with that."""
        return done > self.plan.first(total)

    def close(self) -> None:
        """Let the module compute as it did."""
        for handle in self._handles:
            handle.remove()
        for part in self._changed:
            del part.forward
        self._handles, self._changed = [], []

    def finish(self) -> Json:
        """Tell the ranges by module, and what was rounded."""
        found: Json = {"layers": sum(map(len, self._groups)), "tables": len(self._tables)}
        if self.plan.activations:
            found["ranges"] = {
                path: [float(end) for end in ends]
                for group, ends in zip(self._groups, self._ends().tolist(), strict=True)
                for path in group
            }
        return {"qat": found}

    def _put_on(self) -> None:
        parts = dict(self.module.named_modules())
        for index, group in enumerate(self._groups):
            for path in group:
                part = parts[path]
                part.forward = partial(self._linear, part, part.forward, index)
                self._changed.append(part)
        if not self.plan.embeddings:
            return
        for path, part in parts.items():
            if isinstance(part, nn.Embedding | UsedRows) and not self.plan.leaves(path):
                self._handles.append(part.register_forward_hook(self._rounded(part)))
                self._tables.append(path)

    def _linear(
        self, part: Any, plain: Callable[[torch.Tensor], torch.Tensor], index: int, x: torch.Tensor
    ) -> torch.Tensor:
        if not self._on:
            return plain(x)
        ends = self._ends(index) if self.plan.activations else None
        return fake_linear(x, part.weight, part.bias, ends, self.plan)

    def _ends(self, index: int | slice = slice(None)) -> torch.Tensor:
        """Lowest and highest value of a group, float32 (2,), or of all, (groups, 2)."""
        base = self._base[index]
        if self._shift is None:
            return base
        return base * (self._shift.view(-1, 2)[index] * self.plan.range_rate).exp()

    def _rounded(self, part: nn.Embedding | UsedRows) -> Callable[..., torch.Tensor | None]:
        block = None
        width = int(part.weight.shape[1])
        if self.plan.embedding_bits == 4:
            block = fitting_block(width, self.plan.embedding_block)
        others = _ends_of_others(part)

        def rounded(_: nn.Module, __: Any, looked_up: torch.Tensor) -> torch.Tensor | None:
            if not self._on:
                return None
            if block is not None:
                return fake_block_rows(looked_up, block)
            table = part.weight.detach()
            low, high = torch.minimum(table.min(), others[0]), torch.maximum(table.max(), others[1])
            return fake_rows(looked_up, low, high)

        return rounded

    def _begin(self) -> None:
        if self.plan.activations:
            with torch.no_grad():
                self._base.copy_(self._calibrated())
        self._on.fill_(1)

    def _trace(self) -> list[list[str]]:
        """Give the linear layers that a pass runs, those with the same input together."""
        given: dict[Any, list[str]] = {}
        kept: list[torch.Tensor] = []  # so that no address is used twice

        def note(path: str, x: torch.Tensor) -> None:
            kept.append(x)
            given.setdefault((x.data_ptr(), x.shape, x.stride()), []).append(path)

        self._watched(note, self._chosen()[:1])
        return _joined([list(dict.fromkeys(paths)) for paths in given.values()])

    def _calibrated(self) -> torch.Tensor:
        """Lowest and highest input of each group over some rows: float32 (groups, 2)."""
        place = {path: index for index, group in enumerate(self._groups) for path in group}
        found = torch.zeros_like(self._base)  # ranges hold 0 in any case

        def note(path: str, x: torch.Tensor) -> None:
            index = place[path]
            found[index, 0] = torch.minimum(found[index, 0], x.min())
            found[index, 1] = torch.maximum(found[index, 1], x.max())

        self._watched(note, self._chosen())
        if not bool(torch.isfinite(found).all()):
            raise StageError("qat: an activation of this model is NaN or infinite on its own data")
        team = current_team()
        if team.count > 1:  # other processors may have found other last digits
            found = team.accelerator.reduce(found, "mean")
        return found

    def _chosen(self) -> np.ndarray:
        count = len(self._rows.lengths)
        chosen = np.random.default_rng(self._seed).permutation(count)[: self.plan.samples]
        return np.sort(chosen)

    def _watched(self, note: Callable[[str, torch.Tensor], None], numbers: np.ndarray) -> None:
        """Run rows one by one, without padding, and tell `note` what linear layers are given."""
        handles = [
            part.register_forward_pre_hook(_noting(path, note))
            for path, part in self.module.named_modules()
            if isinstance(part, nn.Linear) and not self.plan.leaves(path)
        ]
        try:
            with torch.no_grad(), self._rows.reading(self.module):
                for number in numbers.tolist():
                    feed = self._rows.feed([number])
                    self.module(**{k: moved(v, self._device) for k, v in feed.items()})
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def fake_quantized(
    module: Any, plan: Qat | None, rows: TorchRows, seed: int, constraint: StepConstraint | None
) -> Iterator[Held]:
    """Give what to train under: `module` rounds as `plan` says; call its `finish` after that.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        It rounds while inside.
    plan : Qat or None
    rows : TorchRows
    seed : int
    constraint : StepConstraint or None
        A further one, asked last.
    """
    if plan is None:
        yield Held([], constraint)
        return
    own = FakeQuantized(module, plan, rows, seed)
    try:
        yield Held([own], constraint)
    finally:
        own.close()


def _noting(path: str, note: Callable[[str, torch.Tensor], None]) -> Callable[..., None]:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        note(path, inputs[0])

    return hook


def _joined(groups: Sequence[list[str]]) -> list[list[str]]:
    """Join groups that name the same module (one that runs several times in a pass)."""
    found: list[list[str]] = []
    for group in groups:
        touching = [other for other in found if set(other) & set(group)]
        merged = list(dict.fromkeys([path for other in (*touching, group) for path in other]))
        found = [other for other in found if other not in touching] + [merged]
    return found


def _ends_of_others(part: nn.Embedding | UsedRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest value of the rows that are not trained, 0 where there are none."""
    zero = part.weight.detach().new_zeros(())
    if not isinstance(part, UsedRows):
        return zero, zero
    rest = part.full[part.place < 0]
    return (rest.min(), rest.max()) if len(rest) else (zero, zero)


def _check_excluded(module: Any, plan: Qat) -> None:
    known: Mapping[str, Any] = dict(module.named_modules())
    for name in plan.exclude:
        if name not in known:
            raise StageError(f"qat excludes {name}, which this model has not{meant(name, known)}")
