"""The fields of every stage that trains: how long, how fast, in which batches (no torch here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from edgecompress.training.gradual_fields import Gradual
from edgecompress.training.masking_fields import Masking
from edgecompress.training.qat_fields import Qat

if TYPE_CHECKING:
    from edgecompress.training.loop import Schedule


class ScheduleFields(BaseModel):
    """What a stage that trains takes beside its own fields; it gives its own defaults.

    A stage names this before `Transform` among its bases, and repeats a field only to give it
    another default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: PositiveInt
    """Times that every training example is seen."""
    learning_rate: PositiveFloat
    """Peak, after warm-up; decays to 0."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate decays after the warm-up: along a line or half a cosine."""
    batch_size: PositiveInt = 16
    """Rows a step, over all processes."""
    batch_tokens: PositiveInt | None = None
    """Tokens a step, padding included, instead of a number of rows: batches of short rows then have
    more of them. Null counts rows."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decay of matrices that are no embeddings."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    patience: PositiveInt | None = None
    """Stop after so many epochs without a better validation score; null trains all."""
    freeze_embeddings: bool = False
    """Leave the embeddings as they are."""
    batch_norms: Literal["kept", "trained"] = "kept"
    """Whether batch normalizations keep their means and deviations, or take them from each batch:
    for networks that still have much to learn, such as very narrow ones."""
    masking: Masking = Masking()
    """What is hidden from a model that learns to guess (`task: masked-lm`); else of no effect."""
    gradual: Gradual | None = None
    """Prune on the way: single weights ({sparsity: 0.8}) or heads and neurons ({heads: 0.5, ffn:
    0.5}), along a schedule ({from: 0.1, until: 0.7, every: 20}); docs/sparsity.md lists all."""

    qat: Qat | None = None
    """Quantization-aware training: round weights, tables and activations while they are trained, as
    int8 has them ({} or {embedding_bits: 4, from: 0.2}); docs/qat.md lists all."""

    def training_schedule(self) -> Schedule:
        """Give these fields as the training loop takes them."""
        from edgecompress.training.loop import Schedule

        return Schedule(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            patience=self.patience,
            decay=self.schedule,
            batch_tokens=self.batch_tokens,
            gradual=self.gradual,
            qat=self.qat,
            batch_norms=self.batch_norms,
        )
