"""Attention heads and feed-forward neurons taken out of a module for good.

The matrices become smaller; nothing is masked. Which rows and columns belong to a head or a neuron
is the family's business (`families.Block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecompress.errors import StageError
from edgecompress.surgery.families import blocks


def keep_heads_and_neurons(
    module: Any, heads: Sequence[Sequence[int]], neurons: Sequence[Sequence[int]]
) -> None:
    """Keep only the named heads and neurons of every layer; changes `module`.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        A model of a supported family.
    heads, neurons : sequence of sequence of int
        For each layer the indices to keep, ascending; neither may be empty.

    Raises
    ------
    StageError
        When a layer would be left without heads or neurons, or an index does not exist.
    """
    found = list(blocks(module))
    for index, (block, kept_heads, kept_neurons) in enumerate(
        zip(found, heads, neurons, strict=True)
    ):
        _check(index, "heads", kept_heads, block.heads)
        _check(index, "neurons", kept_neurons, block.neurons)
        if len(kept_heads) < block.heads:
            block.keep_heads(kept_heads)
        if len(kept_neurons) < block.neurons:
            block.keep_neurons(kept_neurons)


def _check(layer: int, what: str, kept: Sequence[int], there: int) -> None:
    if not kept:
        raise StageError(f"layer {layer} would be left without {what}; remove the layer instead")
    if list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= there:
        raise StageError(f"layer {layer} has {there} {what}; cannot keep {list(kept)[:8]} …")
