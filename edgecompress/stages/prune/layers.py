"""Remove whole layers for good: named ones, evenly spread ones, or those that matter least."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt, field_validator

from edgecompress.errors import StageError
from edgecompress.stage import Context, Kind, Transform
from edgecompress.values import Candidate, TorchModel


class Layers(Transform):
    """Fewer layers; which ones go is measured by the loss without them."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True

    keep: PositiveInt | tuple[int, ...]
    """How many layers to keep, or which (numbered from 0)."""
    choose: Literal["effect", "even"] = "effect"
    """With a number: drop one by one the layer whose loss hurts least, or spread evenly."""
    samples: PositiveInt = 256
    """Training examples that the loss is measured on."""

    @field_validator("keep")
    @classmethod
    def _ascending(cls, keep: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(keep, tuple) and (not keep or list(keep) != sorted(set(keep)) or keep[0] < 0):
            raise ValueError("name the layers to keep in ascending order, from 0, each once")
        return keep

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Choose the layers on a copy of the model, and write the shorter one."""
        from edgecompress.surgery.families import layer_list
        from edgecompress.surgery.layers import evenly_spread, keep_layers
        from edgecompress.surgery.model import load_module, save_module

        module = load_module(candidate.model)
        there = len(layer_list(module))
        dropped: list[dict[str, Any]] = []
        if isinstance(self.keep, tuple):
            if self.keep[-1] >= there:
                raise StageError(f"keep names layer {self.keep[-1]}; the last one is {there - 1}")
            kept = self.keep
        elif self.keep > there:
            raise StageError(f"keep is {self.keep}, but the model has only {there} layers")
        elif self.choose == "even":
            kept = evenly_spread(there, self.keep)
        else:
            kept, dropped = self._least_effect(module, candidate, context, there, self.keep)
        keep_layers(module, kept)
        model = save_module(module, context.folder / "model")
        return candidate.with_model(model, kept=list(kept), dropped=dropped)

    def _least_effect(
        self, module: Any, candidate: Candidate, context: Context, there: int, keep: int
    ) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
        """Drop layers greedily: each time the one without which the mean loss is lowest."""
        from edgecompress.surgery.layers import only_layers
        from edgecompress.training.importance.effect import mean_loss
        from edgecompress.training.rows import labelled_rows, sample

        rows = labelled_rows(candidate, sample(context.train, self.samples, context.seed), module)
        kept = tuple(range(there))
        dropped: list[dict[str, Any]] = []
        total, done = sum(range(keep + 1, there + 1)), 0
        while len(kept) > keep:
            losses = {}
            for layer in kept:
                with only_layers(module, [other for other in kept if other != layer]):
                    losses[layer] = mean_loss(module, rows)
                done += 1
                context.progress(done, total, f"layer {layer} left out")
            least = min(losses, key=lambda layer: losses[layer])
            rounded = {str(layer): round(loss, 6) for layer, loss in losses.items()}
            dropped.append({"layer": least, "loss_without": rounded})
            kept = tuple(layer for layer in kept if layer != least)
        return kept, dropped
