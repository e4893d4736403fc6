"""Train all weights on the labels: makes a teacher, or heals a model after pruning."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.training.schedule_fields import ScheduleFields
from edgecompress.values import Candidate, Step, TorchModel


class Finetune(ScheduleFields, Transform):
    """Train on the right answers of the data; the best epoch on validation data is kept.

    Cross entropy with labels; other answers have a loss of their task's.
    """

    also_called: ClassVar[tuple[str, ...]] = ("train", "training", "qat")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    epochs: PositiveInt = 3
    """Times that every training example is seen."""
    learning_rate: PositiveFloat = 1e-4
    """Peak, after warm-up; decays to 0."""

    @model_validator(mode="after")
    def _lags_behind_nobody(self) -> Finetune:
        if self.balance is not None and self.balance.compares:
            raise ValueError(
                "balance.lagging compares with a teacher, which distil has; give weights or "
                "temperature"
            )
        return self

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the probability spread over all labels."""

    def trains_head(self) -> bool:
        """Yes: the loss is that of the head's answers."""
        return True

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was trained."""
        from edgecompress import telling

        return f"Trained on the training split{telling.epochs(step)}.{telling.while_training(step)}"

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Train a copy of the candidate's model."""
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.training.encoding import labelled_rows, make_rows
        from edgecompress.training.fit import fit
        from edgecompress.training.losses import task_loss
        from edgecompress.training.masking import hiding

        module = load_module(candidate.model)
        rows = hiding(labelled_rows(candidate, context.train, module, joint=True), self.masking)
        held_out = make_rows(candidate, context.validation, module) if context.validation else None
        outcome = fit(
            module,
            rows,
            held_out,
            lambda output, numbers: task_loss(
                rows.task, output, rows.taught(numbers), self.label_smoothing
            ),
            self.training_schedule(),
            context,
            freeze_embeddings=self.freeze_embeddings,
            draws=self.draws(rows),
        )
        model = save_module(module, context.folder / "model")
        return candidate.with_model(model, learned_ranges=outcome.ranges, **outcome.as_json())
