"""Remove attention heads and feed-forward neurons for good, the least important first.

Layers end up with different numbers of both; what is kept is ranked over all layers together.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgecompress.stage import Context, Kind, Transform
from edgecompress.values import Candidate, TorchModel


class Structured(Transform):
    """Smaller matrices, by a calibration pass over training examples."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True

    heads: float = Field(default=0.0, ge=0, lt=1)
    """Share of all attention heads to remove; every layer keeps one."""
    ffn: float = Field(default=0.0, ge=0, lt=1)
    """Share of all feed-forward neurons to remove; every layer keeps `multiple_of`."""
    importance: Literal["taylor", "magnitude"] = "taylor"
    """By the effect on the loss (squared Taylor), or by the size of the weights."""
    samples: PositiveInt = 512
    """Training examples that the effect is estimated on."""
    multiple_of: PositiveInt = 16
    """A pruned layer keeps a multiple of this many neurons: int8 kernels work on such blocks."""

    @model_validator(mode="after")
    def _removes_something(self) -> Structured:
        if not self.heads and not self.ffn:
            raise ValueError("prune.structured removes nothing; give heads, ffn or both")
        return self

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Rank on a copy of the model, cut it, and write the smaller one."""
        from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.training import importance
        from edgecompress.training.rows import labelled_rows, sample

        module = load_module(candidate.model)
        if self.importance == "taylor":
            chosen = sample(context.train, self.samples, context.seed)
            rows = labelled_rows(candidate, chosen, module)
            total = len(rows.encoded)
            found = importance.taylor(
                module, rows, lambda done: context.progress(done, total, "importance")
            )
        else:
            found = importance.magnitude(module)
        heads = importance.keep_best(found.heads, self.heads, "heads")
        neurons = importance.keep_best(found.neurons, self.ffn, "ffn", self.multiple_of)
        keep_heads_and_neurons(module, heads, neurons)
        return candidate.with_model(
            save_module(module, context.folder / "model"),
            heads=heads,
            neurons=[len(kept) for kept in neurons],
            heads_before=[len(layer) for layer in found.heads],
            neurons_before=[len(layer) for layer in found.neurons],
        )
