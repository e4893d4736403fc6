"""What a student is told: by the labels, by the teacher's answers, by the teacher's inner states.

All losses are means over what counts (labelled tokens, real tokens) and ignore padding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn import functional

from edgecompress.errors import StageError
from edgecompress.tasks import Task
from edgecompress.tasks.rows import IGNORED

Kind = Literal["categorical", "vector"]
"""What an output holds (`tasks.Output`)."""

Distance = Literal["normalized", "mse", "cosine"]

NOTHING = -1e9
"""A score whose softmax is 0; finite, because 0 · infinity is no number in the divergence."""


def task_loss(
    task: Task, outputs: Any, targets: Mapping[str, torch.Tensor], smoothing: float = 0.0
) -> torch.Tensor:
    """Give the loss of a batch: the task's own, or the sum of those of its outputs' kinds.

    Parameters
    ----------
    task : Task
    outputs : mapping of str to torch.Tensor
        The module's answer.
    targets : mapping of str to torch.Tensor
        On any device.
    smoothing : float
        See `hard_loss`; of no other kind of output.

    Raises
    ------
    StageError
        When smoothing is asked for and no output is of classes.
    """
    device = outputs[task.outputs[0].name].device
    there = {name: target.to(device) for name, target in targets.items()}
    own = task.loss(outputs, there)
    classes = own is None and any(one.kind == "categorical" for one in task.outputs)
    if smoothing and not classes:
        raise StageError(f"label_smoothing: {task.name} has no classes to smooth; leave it out")
    if own is not None:
        found: torch.Tensor = own
        return found
    parts = [
        hard_loss(outputs[one.name], there[one.target], smoothing)
        if one.kind == "categorical"
        else vector_loss(outputs[one.name], there[one.target])
        for one in task.outputs
    ]
    return functools.reduce(torch.add, parts)


def vector_loss(found: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean squared difference from the right numbers; NaN where nobody has said them.

    Parameters
    ----------
    found, targets : torch.Tensor
        float (…), of one shape.
    """
    known = ~targets.isnan()
    gap = torch.where(known, found.float() - targets.nan_to_num(), 0.0)
    return gap.square().sum() / known.sum().clamp(min=1)


def hard_loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy with the labels.

    Parameters
    ----------
    logits : torch.Tensor
        float (…, classes).
    targets : torch.Tensor
        int64 (…), -100 where there is no label.
    smoothing : float
        Share of the probability spread over all classes (Szegedy et al., 2016).

    Returns
    -------
    torch.Tensor
        Scalar; 0 when nothing is labelled.
    """
    flat, wanted = logits.float().flatten(0, -2), targets.flatten()
    total = functional.cross_entropy(
        flat, wanted, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    return total / (wanted != IGNORED).sum().clamp(min=1)


def example_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each row by itself, the mean over its labelled tokens, float (batch,)."""
    classes = logits.shape[-1]
    each = functional.cross_entropy(
        logits.float().reshape(-1, classes),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    ).view(len(targets), -1)
    count = (targets != IGNORED).view(len(targets), -1).sum(1).clamp(min=1)
    return each.sum(1) / count


def row_losses(
    task: Task, outputs: Mapping[str, Any], targets: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Loss of each row by itself, float (batch,): see `task_loss`."""
    first = task.outputs[0]
    if first.kind == "categorical":
        return example_losses(outputs[first.name], targets[first.target])
    names = [one.name for one in task.outputs]
    alone = (
        task_loss(
            task,
            {name: outputs[name][row : row + 1] for name in names},
            {name: target[row : row + 1] for name, target in targets.items()},
        )
        for row in range(len(outputs[first.name]))
    )
    return torch.stack(list(alone))


def softened(logits: torch.Tensor, temperature: float, kind: Kind = "categorical") -> torch.Tensor:
    """Logarithms of probabilities at a temperature, float32 (…, classes); vectors as they are."""
    if kind == "vector":
        return logits.float()
    return functional.log_softmax(logits.float() / temperature, dim=-1)


def averaged(
    answers: Sequence[torch.Tensor], weights: torch.Tensor, kind: Kind = "categorical"
) -> torch.Tensor:
    """Average several teachers' probabilities, or vectors.

    Probabilities, not logits: a teacher that is sure of nothing must not dilute by its scale
    (the ensemble of Hinton et al., 2015).

    Parameters
    ----------
    answers : sequence of torch.Tensor
        From `softened`, float (tokens, classes) each.
    weights : torch.Tensor
        float (teachers, tokens): how much each teacher counts for a token; not all 0.

    Returns
    -------
    torch.Tensor
        Logarithms of the weighted means, float (tokens, classes).
    """
    shares = weights / weights.sum(0)
    every = torch.stack(tuple(answers))
    if kind == "vector":
        return (every * shares[..., None]).sum(0)
    return torch.logsumexp(every + shares.log()[..., None], dim=0)


def divergence(
    student: torch.Tensor,
    wanted: torch.Tensor,
    temperature: float,
    weights: torch.Tensor | None = None,
    kind: Kind = "categorical",
) -> torch.Tensor:
    """Kullback-Leibler divergence of softened logits from `wanted`, times temperature squared.

    The factor keeps the gradient's size the same at every temperature. Of vectors it is the mean
    squared distance. Source: Hinton, Vinyals & Dean, 2015, "Distilling the knowledge in a neural
    network".

    Parameters
    ----------
    student : torch.Tensor
        Logits, float (tokens, classes).
    wanted : torch.Tensor
        From `softened`, float (tokens, classes).
    weights : torch.Tensor, optional
        float (tokens,).
    """
    if kind == "vector":
        return mean((student.float() - wanted).square().mean(-1), weights)
    each = functional.kl_div(
        softened(student, temperature), wanted, reduction="none", log_target=True
    )
    return mean(each.sum(-1), weights) * (temperature * temperature)


def hidden_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    distance: Distance = "normalized",
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Distance of hidden states, the mean over tokens.

    Parameters
    ----------
    student, teacher : torch.Tensor
        float (tokens, width): real tokens only.
    distance : str
        ``normalized``: mean squared distance after normalising each token's vector, which takes
        away the scale: it differs between layers and is dominated by a few dimensions; what
        remains is the direction (as in Sun et al., 2019, "Patient knowledge distillation").
        ``mse``: the plain mean squared distance (Jiao et al., 2020, "TinyBERT"). ``cosine``: one
        minus the cosine (Sanh et al., 2019, "DistilBERT").
    weights : torch.Tensor, optional
        float (tokens,): how much each counts in the mean.
    """
    ours, its = student.float(), teacher.float()
    if distance == "cosine":
        return mean(1 - functional.cosine_similarity(ours, its, dim=-1), weights)
    if distance == "normalized":
        width = (its.shape[-1],)
        ours, its = functional.layer_norm(ours, width), functional.layer_norm(its, width)
    return mean((ours - its).square().mean(-1), weights)


def relation_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    real: torch.Tensor,
    heads: int,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Divergence of how tokens relate to each other, within queries (or keys, or values).

    The vectors are divided anew into `heads`, so that models with other numbers and sizes of
    attention heads compare; a head's relation is the softmax of the scaled products of all its
    tokens with all. Source: Wang et al., 2021, "MiniLMv2: multi-head self-attention relation
    distillation".

    Parameters
    ----------
    student, teacher : torch.Tensor
        float (batch, length, width of its own).
    real : torch.Tensor
        bool (batch, length): what is no padding.
    heads : int
        Divides both widths.
    weights : torch.Tensor, optional
        float (batch,): how much each row counts.
    """
    with torch.no_grad():
        wanted = _relations(teacher, real, heads)
    each = functional.kl_div(
        _relations(student, real, heads), wanted, reduction="none", log_target=True
    )
    # (batch, heads, length): a padded token relates to others, but counts for nothing.
    each = each.sum(-1).mean(1)
    counts = real.float() if weights is None else real * weights[:, None]
    return (each * counts).sum() / counts.sum().clamp(min=torch.finfo(torch.float32).tiny)


def _relations(vectors: torch.Tensor, real: torch.Tensor, heads: int) -> torch.Tensor:
    batch, length, width = vectors.shape
    size = width // heads
    split = vectors.view(batch, length, heads, size).transpose(1, 2)
    scores = torch.matmul(split, split.transpose(-1, -2)).float() / math.sqrt(size)
    scores = scores.masked_fill(~real[:, None, None, :], NOTHING)
    return functional.log_softmax(scores, dim=-1)


def mean(each: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean of what each answer or token adds, float (tokens,), weighted by `weights`."""
    if weights is None:
        return each.sum() / max(1, len(each))
    return (each * weights).sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
