"""Which single weights, groups or blocks of a model become zero: those of least magnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.families import find_family, word_embedding
from edgecompress.surgery.patterns import Pattern


def prunable(module: Any, matrices: Sequence[str]) -> dict[str, Any]:
    """Give the layers and embeddings of the named kinds, by the name of their weight.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    matrices : sequence of str
        ``linear``: the linear layers of the encoder (and of a pooler), those that widen embeddings
        left out; ``convolutions``: those of the encoder; ``embeddings``: the table of word
        pieces; ``classifier``: the linear layers of the head.

    Raises
    ------
    StageError
        When the model has none of a kind.
    """
    base, family = module.base_model, find_family(module.config)
    embeddings = family.embeddings if family else "embedding"
    inside = {id(part) for part in base.modules()}
    below = {
        id(part)
        for path, part in base.named_modules()
        # What ELECTRA and ALBERT widen their embeddings with is called after them, too.
        if path.startswith(embeddings) or "embedding" in path
    }
    table = word_embedding(module) if "embeddings" in matrices else None
    found: dict[str, dict[str, Any]] = {kind: {} for kind in matrices}
    for path, part in module.named_modules():
        kind = None
        if part is table:
            kind = "embeddings"
        elif isinstance(part, nn.Linear) and id(part) not in below:
            kind = "linear" if id(part) in inside else "classifier"
        elif isinstance(part, nn.Conv1d | nn.Conv2d) and id(part) not in below:
            kind = "convolutions" if id(part) in inside else None
        if kind in found:
            found[kind][f"{path}.weight"] = part
    for kind, parts in found.items():
        if not parts:
            raise StageError(f"matrices names {kind}, and this model has none; leave it out")
    return {name: part for parts in found.values() for name, part in parts.items()}


def choose_zeros(
    weights: Mapping[str, torch.Tensor], sparsity: float, pattern: Pattern, scope: str
) -> dict[str, torch.Tensor]:
    """Choose the weights that become zero: those of least magnitude.

    Sources: Han et al., 2015, "Learning both weights and connections for efficient neural networks"
    (single weights); Mishra et al., 2021, "Accelerating sparse deep neural networks" (N:M, along
    the inputs); Narang et al., 2017, "Block-sparse recurrent neural networks" (blocks; here by the
    sum of their magnitudes).

    Parameters
    ----------
    weights : mapping of str to torch.Tensor
        Matrices (outputs, inputs); zeros in them count as gone first.
    sparsity : float
        Share that goes, rounded down. With N:M it says how many of each M go, rounded to the
        nearest.
    pattern : Pattern
    scope : str
        ``global`` ranks over all matrices, ``layer`` takes the share of every matrix. N:M is the
        same in every group either way.

    Returns
    -------
    dict of str to torch.Tensor
        bool, of each matrix' shape: True where the weight becomes zero.

    Raises
    ------
    StageError
        When a matrix cannot be divided so, or would be left empty; it is named.
    """
    for name, weight in weights.items():
        _check_divides(name, weight, pattern)
    if pattern.of is not None:
        gone = round(sparsity * pattern.of)
        chosen = {name: _least_of_each(w, pattern.of, gone) for name, w in weights.items()}
    else:
        scores = {name: _block_scores(weight, pattern) for name, weight in weights.items()}
        blocks = _least_of_all(scores, sparsity) if scope == "global" else {}
        for name, score in scores.items() if scope == "layer" else ():
            blocks |= _least_of_all({name: score}, sparsity)
        chosen = {
            name: block.repeat_interleave(pattern.rows, 0).repeat_interleave(pattern.columns, 1)
            for name, block in blocks.items()
        }
    for name, zeros in chosen.items():
        if bool(zeros.all()):
            raise StageError(
                f"{name} would be left without a weight at sparsity {sparsity:g}; lower it, "
                "use scope: layer, or smaller blocks"
            )
    return chosen


def _check_divides(name: str, weight: torch.Tensor, pattern: Pattern) -> None:
    outputs, inputs = weight.shape
    if pattern.of is not None and inputs % pattern.of:
        raise StageError(
            f"{name} has {inputs} inputs, which the pattern {pattern.keep}:{pattern.of} does not "
            "divide; choose another or leave this kind out of matrices"
        )
    if outputs % pattern.rows or inputs % pattern.columns:
        raise StageError(
            f"{name} is {outputs} × {inputs} (outputs × inputs), which blocks of "
            f"{pattern.rows}x{pattern.columns} do not divide; choose another size or leave this "
            "kind out of matrices"
        )


def _least_of_each(weight: torch.Tensor, of: int, gone: int) -> torch.Tensor:
    groups = weight.detach().abs().reshape(-1, of)
    order = torch.argsort(groups, dim=1, stable=True)
    zeros = torch.zeros_like(groups, dtype=torch.bool)
    zeros.scatter_(1, order[:, :gone], True)
    return zeros.reshape(weight.shape)


def _block_scores(weight: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Sum of the magnitudes of each block, float32 (outputs / rows, inputs / columns)."""
    rows, columns = pattern.rows, pattern.columns
    sizes = weight.detach().float().abs()
    if rows == columns == 1:
        return sizes
    return sizes.view(sizes.shape[0] // rows, rows, -1, columns).sum((1, 3))


def _least_of_all(scores: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Mark the least `share` of all entries; among equals the first ones go, and no more."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    count = int(share * len(flat) + 1e-9)
    gone = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    if count:
        bound = torch.kthvalue(flat, count).values
        gone = flat < bound
        equal = torch.nonzero(flat == bound).flatten()
        gone[equal[: count - int(gone.sum())]] = True
    parts = gone.split([score.numel() for score in scores.values()])
    return {n: part.view(scores[n].shape) for n, part in zip(scores, parts, strict=True)}
