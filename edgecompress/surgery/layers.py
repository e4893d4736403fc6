"""Whole layers taken out of a module for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecompress.errors import StageError
from edgecompress.surgery.families import family_of


def keep_layers(module: Any, kept: Sequence[int]) -> None:
    """Keep only the named layers, in their order; changes `module` and its configuration.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        A model of a supported family.
    kept : sequence of int
        Indices of the layers to keep, ascending, at least one.

    Raises
    ------
    StageError
        When `kept` is empty, unsorted or names a layer that does not exist, or when the layers
        share their weights so that none can leave alone.
    """
    family = family_of(module.config)
    there = family.run_layers(module)
    if not kept:
        raise StageError("a model needs at least one layer")
    if list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= len(there):
        raise StageError(f"the model has layers 0 to {len(there) - 1}; cannot keep {list(kept)}")
    family.set_layers(module, [there[index] for index in kept])


def evenly_spread(layers: int, keep: int) -> tuple[int, ...]:
    """Choose `keep` of `layers` layers at even distances, the first and the last among them.

    Source: the initialisation of DistilBERT (Sanh et al., 2019) keeps every second layer; keeping
    both ends follows Sajjad et al., 2023, "On the effect of dropping layers".

    >>> evenly_spread(6, 3)
    (0, 2, 5)
    """
    if not 1 <= keep <= layers:
        raise StageError(f"cannot keep {keep} of {layers} layers")
    if keep == 1:
        return (0,)
    return tuple(index * (layers - 1) // (keep - 1) for index in range(keep))
