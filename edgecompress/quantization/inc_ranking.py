"""Rank a model's linear layers by what int8 costs each, to know which to leave in fp32 first.

Imported inside functions only: it needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

UINT8_STEPS, INT8_MAX = 255, 127
TEXTS = 16  # errors of a layer differ by orders of magnitude: few texts tell them apart


def rank_linears(
    module: torch.nn.Module, linears: Mapping[str, str], texts: Sequence[tuple[Any, ...]]
) -> list[str]:
    """Sort linear layers, the one that loses most first.

    Each is judged alone: its output with uint8 inputs (one fixed range) and int8 weights (one scale
    per output channel) is compared with the exact one; the loss is the squared error over the
    squared output.

    Parameters
    ----------
    linears : mapping of str to str
        The layers' names, and their paths in `module`.
    texts : sequence of tuple of int64 tensor (1, length)
        Calibration inputs; the first `TEXTS` of them are used.
    """
    layers: dict[str, Any] = {
        name: module.get_submodule(path) for name, path in sorted(linears.items())
    }
    low = dict.fromkeys(layers, 0.0)
    high = dict.fromkeys(layers, 0.0)
    error = dict.fromkeys(layers, 0.0)
    size = dict.fromkeys(layers, 0.0)

    def see(name: str, values: torch.Tensor, _: torch.Tensor) -> None:
        low[name] = min(low[name], float(values.min()))
        high[name] = max(high[name], float(values.max()))

    def compare(name: str, values: torch.Tensor, output: torch.Tensor) -> None:
        step = (high[name] - low[name]) / UINT8_STEPS or 1.0
        rounded = ((values - low[name]) / step).round() * step + low[name]
        found = torch.nn.functional.linear(rounded, weights[name], layers[name].bias)
        error[name] += float((found - output).square().sum())
        size[name] += float(output.square().sum())

    with torch.no_grad():
        weights = {name: _rounded(layer.weight) for name, layer in layers.items()}
        _run(module, layers, texts[:TEXTS], see)
        _run(module, layers, texts[:TEXTS], compare)
    return sorted(layers, key=lambda name: -error[name] / (size[name] or 1.0))


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / INT8_MAX
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (weight / scale).round() * scale


def _run(
    module: torch.nn.Module,
    layers: Mapping[str, torch.nn.Module],
    texts: Sequence[tuple[Any, ...]],
    seen: Callable[[str, torch.Tensor, torch.Tensor], None],
) -> None:
    """Run the texts and show each layer's inputs and outputs."""
    hooks = [
        layer.register_forward_hook(
            lambda _, given, output, name=name: seen(name, given[0], output)
        )
        for name, layer in layers.items()
    ]
    try:
        for feed in texts:
            module(*feed)
    finally:
        for hook in hooks:
            hook.remove()
