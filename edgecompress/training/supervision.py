"""What a student is told by its teachers: their outputs, aligned with its rows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.models.graph import signature
from edgecompress.models.runner import ALL_CORES, open_onnx
from edgecompress.surgery.families import find_family
from edgecompress.surgery.hidden import hidden_size
from edgecompress.surgery.model import load_module, model_class, read_config
from edgecompress.tasks import load_processor, task
from edgecompress.training.align import Alignment, Ids, align
from edgecompress.training.devices import training_device
from edgecompress.training.distillation import (
    Projections,
    Relations,
    Supervision,
    Weights,
    rows_for,
)
from edgecompress.training.layer_maps import LayerMap, layer_pairs
from edgecompress.training.masking import MaskedRows
from edgecompress.training.online_teacher import OnlineTeacher, token_by_token
from edgecompress.training.outputs import TeacherOutputs, output_names, teacher_outputs
from edgecompress.training.relations import relation_heads, relation_widths
from edgecompress.training.rows import TorchRows
from edgecompress.training.teachers import Opened
from edgecompress.values import Candidate, Json, OnnxModel


@dataclass(frozen=True, slots=True)
class Plan:
    """How inner states are compared.

    Attributes
    ----------
    weights : Weights
    layer_map : str or pairs of int
    relation_layer : int or None
        The teacher's; None is its last.
    relation_heads : int or None
    """

    weights: Weights
    layer_map: LayerMap
    relation_layer: int | None
    relation_heads: int | None


def supervise(
    teachers: Sequence[Opened], rows: TorchRows, module: Any, plan: Plan, context: Context
) -> list[Supervision]:
    """Prepare what each teacher says of the student's rows.

    Parameters
    ----------
    teachers : sequence of Opened
    rows : TorchRows
        The student's.
    module : transformers.PreTrainedModel
        The student.
    plan : Plan
    context : Context
        Its `cached` keeps the teachers' outputs.

    Raises
    ------
    StageError
        When a loss needs what a teacher does not give, or layers or heads do not fit.
    """
    answers = [one.name for one in rows.task.outputs]
    if len(teachers) > 1 and any(one.candidates for one in rows.task.outputs):
        raise StageError(f"{rows.task.name} is taught by one teacher; name one")
    plans = [_fit(opened, module, plan) for opened in teachers]  # says no before hours of work
    taken = np.zeros(len(rows), dtype=bool)
    found = []
    for opened, (pairs, relations, layers) in zip(teachers, plans, strict=True):
        asked = np.flatnonzero(opened.weights)
        names = output_names(
            range(layers) if layers else (teacher for _, teacher in pairs),
            embeddings=bool(plan.weights.embeddings),
            relations=() if relations is None else (relations.its,),
            answers=answers,
        )
        outputs, alignment = _said(opened, rows, asked, names, len(teachers), context)
        states = bool(plan.weights.hidden or plan.weights.embeddings)
        projections = Projections(
            pairs,
            hidden_size(module) if states else 0,
            outputs.width(names[len(answers)]) if states else 0,
            bool(plan.weights.embeddings),
            layers,
            context.seed,
        )
        shares = opened.weights[rows.example]
        inner = (shares > 0) & ~taken
        taken |= inner
        found.append(Supervision(outputs, alignment, shares, inner, pairs, relations, projections))
    return found


def _said(
    opened: Opened,
    rows: TorchRows,
    asked: Ids,
    names: Sequence[str],
    teachers: int,
    context: Context,
) -> tuple[TeacherOutputs | OnlineTeacher, Alignment]:
    """Give what a teacher says of the rows, and what of it stands beside what of the student's."""
    preprocessor: Any = load_processor(rows.task.name, opened.candidate.preprocessor)
    load = functools.cache(functools.partial(_load, opened.candidate))
    taken = rows.inputs_of(_inputs(opened.candidate), preprocessor)
    if isinstance(rows, MaskedRows):
        if teachers > 1 or isinstance(opened.candidate.model, OnnxModel):
            raise StageError(f"{rows.task.name} is taught by one teacher, in PyTorch; name one")
        return OnlineTeacher(load, rows, preprocessor, taken, names), token_by_token(rows)
    its = rows_for(rows, preprocessor, asked, taken)
    outputs = teacher_outputs(opened.candidate, its, names, load, context)
    return outputs, align(rows, its, asked)


def teacher_scores(
    teachers: Sequence[Opened], rows: TorchRows, held_out: TorchRows
) -> dict[str, float]:
    """Score on each validation file the teacher that counts most for the training file of its name.

    Parameters
    ----------
    teachers : sequence of Opened
    rows, held_out : TorchRows
        The student's, of training and of validation.

    Returns
    -------
    dict of str to float
        By file, as `Task.quality` gives it; a file that nobody teaches counts to the first teacher.
    """
    sources = np.array([example.source for example in rows.examples])
    best = {
        name: int(np.argmax([one.weights[sources == name].sum() for one in teachers]))
        for name in {example.source for example in held_out.examples}
    }
    found: dict[str, float] = {}
    for number in sorted(set(best.values())):
        its = _scores_of(teachers[number].candidate, held_out)
        found |= {name: its[name] for name, place in best.items() if place == number and name}
    return found


def _scores_of(teacher: Candidate, held_out: TorchRows) -> dict[str, float]:
    processor: Any = load_processor(held_out.task.name, teacher.preprocessor)
    taken = held_out.inputs_of(_inputs(teacher), processor)
    its = rows_for(held_out, processor, np.arange(len(held_out.examples)), taken)
    if isinstance(teacher.model, OnnxModel):
        outputs = its.asked(open_onnx(teacher.model, ALL_CORES))
        return its.scores_by_file(its.task.decode(outputs, its))
    module = load_module(teacher.model).to(training_device())
    return its.scores_by_file(its.answers(module))


def supervision_json(teachers: Sequence[Opened], supervisions: Sequence[Supervision]) -> Json:
    """Give what was settled about the comparison, as a step's decisions."""
    first = supervisions[0]
    found: Json = {"layer_pairs": [list(pair) for pair in first.pairs]}
    if first.projections.mixture is not None:
        found |= first.projections.mixture.as_json()
    if first.relations is not None:
        relations = first.relations
        found["relations"] = {
            "student_layer": relations.ours,
            "teacher_layer": relations.its,
            "heads": relations.heads,
        }
    pieces = [supervision.alignment for supervision in supervisions]
    if any(alignment.pooled or alignment.left_out for alignment in pieces):
        found["words"] = {
            "compared_whole": sum(alignment.pooled for alignment in pieces),
            "left_out": sum(alignment.left_out for alignment in pieces),
        }
    if len(supervisions) > 1:
        found["teachers"] = [
            {
                "examples": int(np.count_nonzero(opened.weights)),
                "weight": float(opened.weights.max()),
            }
            for opened in teachers
        ]
    return found


def _fit(
    opened: Opened, module: Any, plan: Plan
) -> tuple[tuple[tuple[int, int], ...], Relations | None, int | None]:
    """Settle pairs of layers, relations and how many layers are mixed."""
    weights, model = plan.weights, opened.candidate.model
    if isinstance(model, OnnxModel):
        wanted = [
            name
            for name, weight in (
                ("hidden_weight", weights.hidden),
                ("embedding_weight", weights.embeddings),
                ("relation_weight", weights.relations),
            )
            if weight
        ]
        if wanted:
            raise StageError(
                f"{opened.name} is an ONNX model, which gives answers and nothing of what lies "
                f"inside; set {' and '.join(wanted)} to 0, or name the PyTorch model"
            )
        return (), None, None
    if not (weights.hidden or weights.relations or weights.embeddings):
        return (), None, None
    if find_family(module.config) is None:
        raise StageError(
            f"models of the type {module.config.model_type!r} are not described, so that only "
            "their answers can be compared; set hidden_weight, embedding_weight and "
            "relation_weight to 0"
        )
    ours, its = int(module.config.num_hidden_layers), _layers(opened.candidate)
    pairs = layer_pairs(plan.layer_map, ours, its) if weights.hidden else ()
    mixed = its if weights.hidden and plan.layer_map == "learned" else None
    return pairs, _relations(opened, module, plan, (ours, its)), mixed


def _relations(
    opened: Opened, module: Any, plan: Plan, layers: tuple[int, int]
) -> Relations | None:
    if not plan.weights.relations:
        return None
    ours, its = layers
    layer = its - 1 if plan.relation_layer is None else plan.relation_layer
    if layer >= its:
        raise StageError(f"relation_layer is {layer}; {opened.name} has layers 0 to {its - 1}")
    teacher = _load(opened.candidate)
    mine, other = relation_widths(module, ours - 1), relation_widths(teacher, layer)
    return Relations(ours - 1, layer, relation_heads(plan.relation_heads, mine, other))


def _layers(teacher: Candidate) -> int:
    return int(read_config(teacher.model.directory).num_hidden_layers)


def _inputs(teacher: Candidate) -> Collection[str]:
    """Give the inputs that a teacher takes."""
    if isinstance(teacher.model, OnnxModel):
        return {spec.name for spec in signature(teacher.model)}
    directory = teacher.model.directory
    found = model_class(read_config(directory), directory)
    return inspect.signature(found.forward).parameters


def _load(teacher: Candidate) -> Any:
    """Give a teacher as something that is called with a batch's inputs."""
    if not isinstance(teacher.model, OnnxModel):
        return load_module(teacher.model)
    runner = open_onnx(teacher.model, ALL_CORES)
    named = [one.name for one in task(str(teacher.task)).outputs]

    def answer(**feed: torch.Tensor) -> dict[str, torch.Tensor]:
        found = runner({name: value.numpy() for name, value in feed.items()})
        # One answer alone may be called otherwise in a graph.
        its = found.values() if len(named) == 1 else (found[name] for name in named)
        return {name: torch.from_numpy(value) for name, value in zip(named, its, strict=False)}

    return answer
