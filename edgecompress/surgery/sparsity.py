"""The record of the matrices whose zeros must stay: pruned weights stay zero in every training.

Pruning marks a linear layer, a convolution or an embedding; the mark is an attribute of the part,
so it moves with it when layers are removed or matrices are cut (`carry` gives it to a part that
takes the place of another). On disk, beside the weights, ``sparsity.json`` names the marked parts'
matrices::

    {"format": 1, "tensors": ["bert.encoder.layer.0.attention.self.query.weight", …]}

Which entries are zero is read from the weights themselves: there is no second copy of the mask that
could disagree with them. Removing rows or columns of a matrix therefore needs no translation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from edgecompress.errors import DataError
from edgecompress.values import Json

FILE = "sparsity.json"
_MARK = "keeps_zeros"


def mark(part: nn.Module) -> None:
    """Say that the zeros of a part's weight must stay."""
    setattr(part, _MARK, True)


def carry(old: nn.Module, new: nn.Module) -> None:
    """Give the mark of a part to the one that takes its place with the same (or fewer) weights."""
    if keeps_zeros(old):
        mark(new)


def keeps_zeros(part: nn.Module) -> bool:
    """Say whether the zeros of a part's weight must stay."""
    return bool(getattr(part, _MARK, False))


def marked(module: nn.Module) -> dict[str, Any]:
    """Give the parts whose zeros must stay, by the name of their weight."""
    return {
        f"{path}.weight": part
        for path, part in module.named_modules()
        if keeps_zeros(part) and isinstance(getattr(part, "weight", None), nn.Parameter)
    }


def write_record(module: nn.Module, directory: Path) -> None:
    """Write ``sparsity.json`` into a model's directory, where a part is marked."""
    if names := list(marked(module)):
        text = json.dumps({"format": 1, "tensors": names}) + "\n"
        (directory / FILE).write_text(text, encoding="utf-8")


def read_record(module: nn.Module, directory: Path) -> None:
    """Mark the parts that a model directory's ``sparsity.json`` names, if there is one.

    Raises
    ------
    DataError
        When it is damaged, newer, or names what the model has not.
    """
    file = directory / FILE
    if not file.is_file():
        return
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        written, names = int(document["format"]), [str(name) for name in document["tensors"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"damaged record of pruned matrices ({error})", file=file) from None
    if written != 1:
        raise DataError(f"format {written} is newer than this edgecompress reads (1)", file=file)
    parts = dict(module.named_modules())
    for name in names:
        part = parts.get(name.removesuffix(".weight"))
        if not isinstance(part, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d):
            raise DataError(f"names {name}, which this model has not", file=file)
        mark(part)


def shares(module: nn.Module) -> Json:
    """Measure what is zero in the marked matrices, as a step's decisions.

    Returns
    -------
    dict
        ``weights`` and ``zeros`` of all of them (counts), their share ``sparsity``, the share
        ``sparsity_of_model`` of all parameters, and ``tensors``: the share of each by name.
    """
    parts = marked(module)
    zeros = {name: int((part.weight == 0).sum()) for name, part in parts.items()}
    total = sum(part.weight.numel() for part in parts.values())
    whole = sum(parameter.numel() for parameter in module.parameters())
    return {
        "weights": total,
        "zeros": sum(zeros.values()),
        "sparsity": round(sum(zeros.values()) / max(1, total), 6),
        "sparsity_of_model": round(sum(zeros.values()) / max(1, whole), 6),
        "tensors": {n: round(zeros[n] / p.weight.numel(), 6) for n, p in parts.items()},
    }
