"""Queries, keys and values as a module computes them, read by hooks on its linear layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from edgecompress.errors import StageError
from edgecompress.surgery.families import Block, blocks

ROLES = ("query", "key", "value")

SMALLEST = 16
"""Width of a teacher's relation head where the number of heads is not given: 48 heads of 16 in the
paper's models of 768 (Wang et al., 2021, "MiniLMv2", section 4.1)."""


@contextmanager
def captured(module: Any, layers: Iterable[int]) -> Iterator[dict[str, torch.Tensor]]:
    """While inside, each forward pass leaves its queries, keys and values here.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    layers : iterable of int
        From 0.

    Yields
    ------
    dict of str to torch.Tensor
        ``query-3`` and so on, float (batch, length, heads · head size).
    """
    found: dict[str, torch.Tensor] = {}

    def keep_thirds(layer: int) -> Any:
        def hook(_layer: Any, _inputs: Any, output: torch.Tensor) -> None:
            for role, third in zip(ROLES, output.chunk(3, dim=-1), strict=True):
                found[f"{role}-{layer}"] = third

        return hook

    def keep(name: str) -> Any:
        def hook(_layer: Any, _inputs: Any, output: torch.Tensor) -> None:
            found[name] = output

        return hook

    with ExitStack() as hooks:
        for layer in layers:
            block = _block(module, layer)
            if block.family.qkv:
                part, hook = block.linear("qkv"), keep_thirds(layer)
                hooks.callback(part.register_forward_hook(hook).remove)
                continue
            for role in ROLES:
                part = block.linear(role)
                hooks.callback(part.register_forward_hook(keep(f"{role}-{layer}")).remove)
        yield found
        found.clear()


def relation_widths(module: Any, layer: int) -> tuple[int, ...]:
    """Give the widths of a layer's queries, keys and values."""
    block = _block(module, layer)
    if block.family.qkv:
        return (int(block.linear("qkv").out_features) // 3,) * 3
    return tuple(int(block.linear(role).out_features) for role in ROLES)


def _block(module: Any, layer: int) -> Block:
    found = list(blocks(module))
    if layer >= len(found):
        raise StageError(
            f"layer {layer} shares its weights with another, so that its queries cannot be told "
            "from those; set relation_weight: 0"
        )
    return found[layer]


def relation_heads(wanted: int | None, ours: Iterable[int], its: Iterable[int]) -> int:
    """Give the number of relation heads that both models' vectors are divided into.

    Parameters
    ----------
    wanted : int or None
        None takes the most that divide all widths and leave the teacher's heads 16 wide.
    ours, its : iterable of int
        Widths of the student's and the teacher's vectors.

    Raises
    ------
    StageError
        When `wanted` does not divide all of them.
    """
    mine, other = tuple(ours), tuple(its)
    common = math.gcd(*mine, *other)
    if wanted is None:
        most = max(1, min(other) // SMALLEST)
        return max(heads for heads in range(1, most + 1) if common % heads == 0)
    if common % wanted:
        raise StageError(
            f"relation_heads {wanted} does not divide the student's width {mine[0]} and the "
            f"teacher's {other[0]}; give a divisor of {common}, or leave it out"
        )
    return wanted
