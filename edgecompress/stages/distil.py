"""Train a smaller model towards the teacher's answers and inner states, and towards the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgecompress.errors import StageError
from edgecompress.stage import Context, Kind, Transform
from edgecompress.training.schedule_fields import ScheduleFields
from edgecompress.values import Candidate, TorchModel


class Distil(ScheduleFields, Transform):
    """Knowledge distillation; the teacher's outputs are computed once for all runs."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True

    epochs: PositiveInt = 4
    """Times that every training example is seen."""
    learning_rate: PositiveFloat = 2e-4
    """Peak, after warm-up; decays to 0."""
    temperature: PositiveFloat = 2.0
    """Softens both models' answers before they are compared."""
    logits_weight: float = Field(default=1.0, ge=0)
    """Weight of the divergence from the teacher's answers."""
    hidden_weight: float = Field(default=1.0, ge=0)
    """Weight of the distance from the teacher's hidden states."""
    label_weight: float = Field(default=0.5, ge=0)
    """Weight of the cross entropy with the labels."""
    layer_map: Literal["last", "uniform"] | tuple[tuple[int, int], ...] = "uniform"
    """Whose hidden states are compared: the last layers', every student layer with an evenly
    spread teacher layer (a file of 2 · tokens · width bytes per teacher layer is kept in the
    store), or pairs of (student layer, teacher layer), numbered from 0."""

    @model_validator(mode="after")
    def _learns_something(self) -> Distil:
        if not self.logits_weight and not self.hidden_weight:
            raise ValueError("distil listens to no teacher; give logits_weight or hidden_weight")
        return self

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Train a copy of the candidate's model."""
        from edgecompress.surgery.families import layer_list
        from edgecompress.surgery.model import load_module, read_config, save_module
        from edgecompress.training.distillation import Teaching, projections, same_rows
        from edgecompress.training.fit import fit
        from edgecompress.training.outputs import teacher_outputs
        from edgecompress.training.rows import make_rows

        teacher = _teacher_of(candidate, context)
        module = load_module(candidate.model)
        rows = make_rows(candidate, context.train, module)
        config = read_config(teacher.model.directory)
        pairs = self._pairs(len(layer_list(module)), int(config.num_hidden_layers))
        outputs = teacher_outputs(
            teacher,
            same_rows(teacher, rows, config),
            [its for _, its in pairs],
            lambda: load_module(teacher.model),
            context,
        )
        beside = projections(pairs, module.config.hidden_size, config.hidden_size, context.seed)
        teaching = Teaching(
            rows,
            outputs,
            pairs,
            beside,
            self.temperature,
            self.logits_weight,
            self.hidden_weight,
            self.label_weight,
        )
        held_out = make_rows(candidate, context.validation, module) if context.validation else None
        outcome = fit(
            module,
            rows,
            held_out,
            teaching.loss,
            self.training_schedule(),
            context,
            hidden_states=bool(pairs),
            freeze_embeddings=self.freeze_embeddings,
            beside=beside,
        )
        model = save_module(module, context.folder / "model")
        return candidate.with_model(
            model, **outcome.as_json(), layer_pairs=[list(pair) for pair in pairs]
        )

    def _pairs(self, ours: int, its: int) -> Sequence[tuple[int, int]]:
        """Resolve the layer map for a student of `ours` and a teacher of `its` layers."""
        if not self.hidden_weight:
            return ()
        if self.layer_map == "last":
            return ((ours - 1, its - 1),)
        if self.layer_map == "uniform":
            return tuple(
                (layer, ((layer + 1) * its + ours - 1) // ours - 1) for layer in range(ours)
            )
        for student, teacher in self.layer_map:
            if not (0 <= student < ours and 0 <= teacher < its):
                raise StageError(
                    f"layer_map pairs layer {student} with the teacher's {teacher}; the student "
                    f"has layers 0 to {ours - 1}, the teacher 0 to {its - 1}"
                )
        return self.layer_map


def _teacher_of(candidate: Candidate, context: Context) -> Any:
    """Give the teacher, if this student can learn from it."""
    teacher = context.teacher
    if teacher is None:
        raise StageError("distil needs a teacher; give the recipe a `teacher`")
    if teacher.task != candidate.task:
        raise StageError(f"the teacher's task is {teacher.task}, the student's {candidate.task}")
    if teacher.labels != candidate.labels:
        raise StageError(
            f"the teacher's labels ({', '.join(teacher.labels)}) are not the student's "
            f"({', '.join(candidate.labels)}), in the same order"
        )
    return teacher
