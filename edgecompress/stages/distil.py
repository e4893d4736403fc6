"""Train a smaller model towards its teachers' answers and inner states, and towards the labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.training.schedule_fields import ScheduleFields
from edgecompress.training.student_shape import StudentShape
from edgecompress.training.teachers import TeacherUse
from edgecompress.training.transfer import Transfer
from edgecompress.values import Candidate, Example, Json, Step, TorchModel


class Distil(ScheduleFields, Transform):
    """Knowledge distillation; the teacher's outputs are computed once for all runs."""

    also_called: ClassVar[tuple[str, ...]] = ("knowledge-distillation", "kd")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    distributed: ClassVar[bool] = True

    epochs: PositiveInt = 4
    """Times that every example is seen."""
    learning_rate: PositiveFloat = 2e-4
    """Peak, after warm-up; decays to 0."""
    temperature: PositiveFloat = 2.0
    """Softens both models' answers before they are compared."""
    logits_weight: NonNegativeFloat = 1.0
    """Weight of the divergence from the teacher's answers."""
    hidden_weight: NonNegativeFloat = 1.0
    """Weight of the distance from the teacher's hidden states, the mean over `layer_map`."""
    embedding_weight: NonNegativeFloat = 0.0
    """Weight of the distance from what goes into the teacher's first layer."""
    relation_weight: NonNegativeFloat = 0.0
    """Weight of the divergence from how the teacher's queries, keys and values relate to each
    other, in the student's last layer (MiniLMv2)."""
    label_weight: NonNegativeFloat = 0.5
    """Weight of the cross entropy with the labels."""
    layer_map: Literal["last", "uniform", "learned"] | tuple[tuple[int, int], ...] | None = None
    """Whose hidden states are compared: nobody's (null); the last layers'; every student layer with
    an evenly spread teacher layer (a file of 2 · tokens · width bytes per teacher layer is kept in
    the store); every student layer with a mixture of all teacher layers whose weights are learned;
    or pairs of (student layer, teacher layer), numbered from 0."""
    distance: Literal["normalized", "mse", "cosine"] = "normalized"
    """Of hidden states and embeddings: the mean squared distance after normalising each token's
    vector, or before, or one minus the cosine."""
    relation_layer: NonNegativeInt | None = None
    """The teacher's layer whose relations are taught, from 0; null is the last."""
    relation_heads: PositiveInt | None = None
    """Heads that queries, keys and values are divided into anew; they must divide both models'
    widths. Null: the most that do, with at least 16 channels of the teacher's in each."""
    teachers: tuple[TeacherUse, ...] = ()
    """Several teachers, or one for each data file; what none of them teaches, the recipe's teacher
    does. Their probabilities are averaged; hidden states, relations and embeddings are the first's
    that applies."""
    student: StudentShape | None = None
    """Train a new model of this smaller shape instead of the one that the stage is given."""
    transfer: Transfer | None = None
    """Text without labels to learn from, too."""
    transfer_weight: PositiveFloat = 1.0
    """How much such a text counts beside a training example in what the teachers say."""

    @model_validator(mode="after")
    def _learns_something(self) -> Distil:
        weights = (self.logits_weight, self.embedding_weight, self.relation_weight)
        if not any((*weights, self.layer_map is not None and self.hidden_weight)):
            raise ValueError(
                "distil listens to no teacher; give logits_weight, layer_map (hidden states), "
                "embedding_weight or relation_weight"
            )
        if self.layer_map is None and self.hidden_weight not in (0.0, 1.0):  # the default is idle
            raise ValueError(
                "hidden_weight weighs the layers that layer_map pairs, and there is none; "
                "add layer_map: uniform, last or learned, or pairs of layers"
            )
        if self.layer_map == () and self.hidden_weight:
            raise ValueError("layer_map has no pair; leave it out to compare no layers")
        if self.layer_map == "learned" and self.hidden_weight and self.distance == "mse":
            raise ValueError(
                "layer_map: learned mixes normalised states; use distance: normalized or cosine"
            )
        if self.balance is not None and self.balance.compares and self.epochs == 1:
            raise ValueError("balance.lagging learns at the end of each epoch; give epochs: 2")
        return self

    def identity(self) -> Json:
        """Give the parameters with digests in the place of teachers' and corpora's names."""
        found = self.model_dump(mode="json")
        found["teachers"] = [use.identity() for use in self.teachers]
        found["transfer"] = self.transfer.identity() if self.transfer else None
        return found

    def check_task(self, name: str) -> None:
        """Refuse several teachers where they would have to be asked while the student trains.

        And the scores of a teacher that answers only there.
        """
        from edgecompress.tasks import task

        if task(name).redraws and len(self.teachers) > 1:
            raise DataError(f"distil: {name} is taught by one teacher; name one under teachers")
        if task(name).redraws and self.balance is not None and self.balance.compares:
            raise DataError(f"balance.lagging scores the teacher's answers, and {name} has none")

    def check_inputs(self) -> None:
        """See that the teachers' directories and the transfer set's files are there."""
        for use in self.teachers:
            use.check()
        if self.transfer is not None:
            self.transfer.check()

    def check_examples(self, examples: Sequence[Example]) -> None:
        """Refuse weights of files that no example comes from; a corpus may bring others."""
        if self.transfer is None or not self.transfer.corpus:
            super().check_examples(examples)

    def trains_head(self) -> bool:
        """Whether answers are compared: the teacher's, or the labels."""
        return self.logits_weight > 0 or self.label_weight > 0

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was trained."""
        from edgecompress import telling

        and_labels = " and the labels" if step.parameters.get("label_weight") else ""
        pairs = telling.items(step.decisions.get("layer_pairs"))
        layers = telling.counted(len(pairs), "layer")
        inner = f", {layers} compared with the teacher's" if pairs else ""
        return (
            f"Trained towards the teacher's answers{and_labels}{telling.epochs(step)}{inner}."
            f"{telling.while_training(step)}"
        )

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Train a copy of the candidate's model, or a new one of the shape of `student`."""
        from torch import nn

        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.training.distillation import Teaching
        from edgecompress.training.encoding import make_rows
        from edgecompress.training.fit import fit
        from edgecompress.training.masking import hiding
        from edgecompress.training.relations import captured
        from edgecompress.training.supervision import supervise, supervision_json, teacher_scores
        from edgecompress.training.teachers import open_teachers

        examples = self._examples(candidate, context)
        teachers = open_teachers(self.teachers, candidate, examples, context)
        module = self._student(candidate, context.seed, load_module)
        rows = hiding(make_rows(candidate, examples, module), self.masking)
        if self.label_weight and rows.task.tells and not all(map(_known, rows)):
            raise DataError(
                f"some training examples of {candidate.task} have no right answer, which their own "
                "loss cannot leave out; set label_weight to 0, or leave them out of the data"
            )
        supervisions = supervise(teachers, rows, module, self._plan(), context)
        held_out = make_rows(candidate, context.validation, module) if context.validation else None
        if held_out is None and self.balance is not None and self.balance.compares:
            raise DataError("balance.lagging looks at validation data; give data.validation")
        layers = {
            supervision.relations.ours for supervision in supervisions if supervision.relations
        }
        projections = nn.ModuleList(supervision.projections for supervision in supervisions)
        with captured(module, layers) as caught:
            counts = self._row_weights(rows.example, len(context.train))
            scores = partial(teacher_scores, teachers, rows, held_out) if held_out else None
            draws = self.draws(rows, scores)
            teaching = Teaching(rows, supervisions, self._plan().weights, counts, caught)
            outcome = fit(
                module,
                rows,
                held_out,
                teaching.loss,
                self.training_schedule(),
                context,
                hidden_states=teaching.reads_hidden_states,
                freeze_embeddings=self.freeze_embeddings,
                projections=projections if any(True for _ in projections.parameters()) else None,
                draws=draws,
            )
        model = save_module(module, context.folder / "model")
        found = outcome.as_json() | supervision_json(teachers, supervisions)
        if len(examples) > len(context.train):
            found["transfer_examples"] = len(examples) - len(context.train)
        return candidate.with_model(model, learned_ranges=outcome.ranges, **found)

    def _examples(self, candidate: Candidate, context: Context) -> Sequence[Example]:
        if self.transfer is None:
            return context.train
        from edgecompress.processors import TextProcessor
        from edgecompress.tasks import load_processor
        from edgecompress.training.transfer import transfer_examples

        preprocessor = load_processor(str(candidate.task), candidate.preprocessor)
        if not isinstance(preprocessor, TextProcessor):
            raise StageError(f"transfer takes text, and {candidate.task} asks about none")
        found = transfer_examples(
            self.transfer, context.train, context.seed, preprocessor, context.validation
        )
        return (*context.train, *found)

    def _row_weights(self, example: Any, labelled: int) -> Any:
        """Give how much each row counts, float32 (rows,), or None where all count alike."""
        import numpy as np

        if self.transfer is None or self.transfer_weight == 1:
            return None
        return np.where(example < labelled, 1.0, self.transfer_weight).astype(np.float32)

    def _student(self, candidate: Candidate, seed: int, load: Any) -> Any:
        if self.student is None or not isinstance(candidate.model, TorchModel):
            return load(candidate.model)
        return self.student.make(candidate.model, seed)

    def _plan(self) -> Any:
        from edgecompress.training.distillation import Weights
        from edgecompress.training.supervision import Plan

        weights = Weights(
            logits=self.logits_weight,
            hidden=self.hidden_weight if self.layer_map is not None else 0.0,
            embeddings=self.embedding_weight,
            relations=self.relation_weight,
            labels=self.label_weight,
            temperature=self.temperature,
            distance=self.distance,
        )
        return Plan(weights, self.layer_map or (), self.relation_layer, self.relation_heads)


def _known(row: Any) -> bool:
    """Whether somebody has said what is right of a row."""
    import numpy as np

    return not any(np.isnan(one).any() for one in row.target.values())
