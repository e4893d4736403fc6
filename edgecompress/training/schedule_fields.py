"""The fields of every stage that trains: how long, how fast, in which batches (no torch here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from edgecompress.training.balance_fields import Balance
from edgecompress.training.gradual_fields import Gradual
from edgecompress.training.lora_fields import Lora
from edgecompress.training.masking_fields import Masking
from edgecompress.training.qat_fields import Qat
from edgecompress.values import Example

if TYPE_CHECKING:
    from edgecompress.training.balance import Draws
    from edgecompress.training.rows import TorchRows
    from edgecompress.training.schedule import Schedule


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
    balance: Balance | None = None
    """How often each data file is drawn: {weights: {pcm: 2}}, {temperature: 3}, or while training
    runs by how far it scores below the teacher, {lagging: 4}; null: every example once an epoch."""
    gradual: Gradual | None = None
    """Prune on the way: single weights ({sparsity: 0.8}) or heads and neurons ({heads: 0.5, ffn:
    0.5}), along a schedule ({from: 0.1, until: 0.7, every: 20}); docs/sparsity.md lists all."""

    qat: Qat | None = None
    """Quantization-aware training: round weights, tables and activations while they are trained, as
    int8 has them ({} or {embedding_bits: 4, from: 0.2}); docs/qat.md lists all."""

    lora: Lora | None = None
    """Train products of low rank beside the matrices in the place of these, and merge them at the
    end ({} or {rank: 8, alpha: 16, only: [query, value]}); embeddings stay as they are."""

    @model_validator(mode="after")
    def _draws_rows(self) -> Self:
        if self.balance is not None and self.batch_tokens is not None:
            raise ValueError("balance counts rows; give batch_size in the place of batch_tokens")
        return self

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Refuse weights of data files that no example comes from."""
        if self.balance is not None:
            self.balance.check_sources({example.source for example in examples})

    def draws(
        self, rows: TorchRows, teacher: Callable[[], Mapping[str, float]] | None = None
    ) -> Draws | None:
        """Give what draws the rows, where `balance` asks for it; `teacher` as `Draws` takes it."""
        from edgecompress.training.balance import Draws

        return Draws(self.balance, rows, teacher) if self.balance is not None else None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        for name in ("gradual", "qat"):
            if self.lora is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"lora leaves the matrices as they are while it trains, and {name} changes "
                    "them; give one, or two stages"
                )
        return self

    def training_schedule(self) -> Schedule:
        """Give these fields as the training loop takes them."""
        from edgecompress.training.schedule import Schedule

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
            lora=self.lora,
        )
