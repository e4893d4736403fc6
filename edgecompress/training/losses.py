"""What a student is told: by the labels, by the teacher's answers, by the teacher's inner states.

All losses are means over what counts (labelled tokens, real tokens) and ignore padding.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgecompress.tasks.base import IGNORED


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


def soft_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Divergence from the teacher's softened answers, times temperature squared.

    Source: Hinton, Vinyals & Dean, 2015, "Distilling the knowledge in a neural network"; the factor
    keeps the gradient's size the same at every temperature.

    Parameters
    ----------
    student, teacher : torch.Tensor
        float (tokens, classes): only the tokens that count.
    temperature : float
    """
    return functional.kl_div(
        functional.log_softmax(student.float() / temperature, dim=-1),
        functional.log_softmax(teacher.float() / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    ) * (temperature * temperature)


def hidden_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of hidden states after normalising each token's vector.

    Normalising takes away the scale, which differs between layers and is dominated by a few
    dimensions; what remains is the direction (as in Sun et al., 2019, "Patient knowledge
    distillation").

    Parameters
    ----------
    student, teacher : torch.Tensor
        float (tokens, width): real tokens only.
    """
    width = (teacher.shape[-1],)
    return functional.mse_loss(
        functional.layer_norm(student.float(), width),
        functional.layer_norm(teacher.float(), width),
    )
