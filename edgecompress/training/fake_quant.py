"""Rounding as int8 inference does it, in PyTorch and with gradients.

The arithmetic is that of `arithmetic.weights` and `arithmetic.blocks`, operation by operation
and in the same precision, so that codes and scales are the same bits; tests hold them together
(training and quantization are rooms that do not import each other). Linear layers multiply the
integer codes themselves, as floats: codes are exact in bfloat16, too, and as long as a sum stays
below 2^24 the result is the one that integers give.

Gradients go straight through rounding (Bengio et al., 2013, "Estimating or propagating gradients
through stochastic neurons") and stop where an activation is clipped. Those of a range's ends are
LSQ's of its step (Esser et al., 2020, "Learned step size quantization"), for a grid between two
ends (Nagel et al., 2021, "A white paper on neural network quantization", section 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.training.qat_fields import Qat

SMALLEST_BLOCK = 16
LEVELS = {
    (False, True, False): (-127, 127),
    (False, True, True): (-64, 64),
    (True, True, False): (0, 255),
    (True, False, False): (0, 255),
    (True, True, True): (0, 127),
    (True, False, True): (0, 127),
}
"""Lowest and highest code by (unsigned, symmetric, reduced), as `arithmetic.weights` has it."""
TINY = float(np.finfo(np.float32).tiny)
SHRINKS = np.linspace(0.7, 1.0, 16, dtype=np.float32)
"""As `arithmetic.blocks` tries them."""


class _Through(torch.autograd.Function):
    """Gives `made` in the place of `real`, to which the gradient goes."""

    @staticmethod
    def forward(ctx: Any, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:  # noqa: ARG004
        return gradients[0], None


class _Codes(torch.autograd.Function):
    """Codes of activations less their zero point; see `activation_codes`."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, ends: torch.Tensor, signed: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale, zero = activation_grid(ends, signed)
        least, most = (-128, 127) if signed else (0, 255)
        ratio = values.float() / scale
        codes = ratio.round().add_(zero).clamp_(least, most).sub_(zero)
        ctx.save_for_backward(ratio, codes, scale, ends)
        ctx.signed, ctx.dtype = signed, values.dtype
        ctx.mark_non_differentiable(scale)
        return codes, scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        ratio, codes, scale, ends = ctx.saved_tensors
        of_value = gradients[0].float() / scale
        rounded = ratio.round()
        inside = rounded == codes
        of_ends = None
        if ctx.needs_input_grad[1]:
            above = torch.where(rounded > codes, of_value, 0.0).sum()
            below = torch.where(rounded < codes, of_value, 0.0).sum()
            within = torch.where(inside, of_value * (codes - ratio), 0.0).sum()
            if ctx.signed:  # one number rules both ends: the larger of the two
                most = above - below + within / 127
                low_rules = -ends[0] > ends[1]
                pair = torch.where(low_rules, -most, 0.0), torch.where(low_rules, 0.0, most)
            else:
                pair = below - within / 255, above + within / 255
            # LSQ's factor: many values say what to do with two numbers.
            of_ends = torch.stack(pair) / (ratio.numel() * 255) ** 0.5
        return torch.where(inside, of_value, 0.0).to(ctx.dtype), of_ends, None


def _over(values: torch.Tensor, number: int) -> torch.Tensor:
    """Divide by a whole number; by a Python number, CUDA would multiply with its inverse."""
    return values / values.new_tensor(float(number))


def activation_grid(ends: torch.Tensor, signed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and zero point of a range, float32 () each, as `arithmetic.weights` has them.

    Parameters
    ----------
    ends : torch.Tensor
        float32 (2,): lowest and highest value.
    signed : bool
        int8, symmetric; else uint8.
    """
    low, high = ends.detach()[0].clamp(max=0).double(), ends.detach()[1].clamp(min=0).double()
    wide = _over(2 * torch.maximum(-low, high), 254) if signed else _over(high - low, 255)
    empty = wide < TINY
    scale = torch.where(empty, 1.0, wide)
    zero = torch.zeros_like(wide) if signed else torch.where(empty, 0.0, torch.round(-low / scale))
    return scale.float(), zero.float()


def activation_codes(
    values: torch.Tensor, ends: torch.Tensor, signed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Round activations to 8 bits.

    Parameters
    ----------
    values : torch.Tensor
        Any shape.
    ends : torch.Tensor
        float32 (2,): lowest and highest value.
    signed : bool
        int8, symmetric; else uint8.

    Returns
    -------
    codes : torch.Tensor
        float32, the shape of `values`: whole numbers, the zero point taken off.
    scale : torch.Tensor
        float32 (): codes times this are the values again.
    """
    found: tuple[torch.Tensor, torch.Tensor] = _Codes.apply(values, ends, signed)
    return found


def weight_codes(weight: torch.Tensor, plan: Qat) -> tuple[torch.Tensor, torch.Tensor]:
    """Round the weight of a linear layer to 8 bits, as `arithmetic.weights.quantize_linear`.

    Parameters
    ----------
    weight : torch.Tensor
        float32 (outputs, inputs).
    plan : Qat

    Returns
    -------
    codes : torch.Tensor
        float32 (outputs, inputs): whole numbers, the zero point taken off.
    scale : torch.Tensor
        float32 (outputs, 1), or () for one scale.
    """
    unsigned = plan.weight == "uint8"
    given = weight.detach()
    lowest = given.amin(1, keepdim=True) if plan.per_channel else given.amin()
    highest = given.amax(1, keepdim=True) if plan.per_channel else given.amax()
    low, high = lowest.clamp(max=0).double(), highest.clamp(min=0).double()
    if plan.symmetric:
        high = torch.maximum(-low, high)
        low = -high
    least, most = LEVELS[unsigned, plan.symmetric, plan.reduce_range]
    wide = _over(high - low, most - least)
    empty = wide < TINY
    if plan.symmetric:
        middle = torch.full_like(wide, round((least + most) / 2))
    else:
        middle = torch.round(least - low / torch.where(empty, 1.0, wide))
    zero = torch.where(empty, 0.0, middle).float()
    scale = torch.where(empty, 1.0, wide).float()
    bounds = (0, 255) if unsigned else (-128, 127)
    ratio = weight / scale
    codes = ratio.detach().round().add_(zero).clamp_(*bounds).sub_(zero)
    return _Through.apply(ratio, codes), scale


def fake_linear(
    values: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ends: torch.Tensor | None,
    plan: Qat,
) -> torch.Tensor:
    """Compute a linear layer as its 8-bit form does.

    Parameters
    ----------
    values : torch.Tensor
        (…, inputs).
    weight : torch.Tensor
        float32 (outputs, inputs).
    bias : torch.Tensor or None
        float32 (outputs,).
    ends : torch.Tensor or None
        float32 (2,): the range of `values`; None leaves them as they are.
    plan : Qat

    Returns
    -------
    torch.Tensor
        (…, outputs).
    """
    codes, scale = weight_codes(weight, plan)
    scale = scale.squeeze(-1)
    if ends is not None:
        values, step = activation_codes(values, ends, plan.activation == "int8")
        scale = step * scale
    found = nn.functional.linear(values, codes) * scale
    return found if bias is None else found + bias


def fake_rows(rows: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Round rows that were looked up in a table of uint8 with one scale.

    Parameters
    ----------
    rows : torch.Tensor
        float32 (…, width).
    low, high : torch.Tensor
        float32 (): lowest and highest value of the whole table.
    """
    scale, zero = activation_grid(torch.stack([low, high]), signed=False)
    codes = (rows.detach() / scale).round().add_(zero).clamp_(0, 255).sub_(zero)
    made: torch.Tensor = _Through.apply(rows, codes * scale)
    return made


def fitting_block(width: int, wanted: int) -> int | None:
    """Give the largest block of at most `wanted` values that divides `width`; None: there is none.

    >>> fitting_block(192, 128), fitting_block(24, 64)
    (64, None)
    """
    block = wanted
    while block >= SMALLEST_BLOCK:
        if width % block == 0:
            return block
        block //= 2
    return None


def fake_block_rows(rows: torch.Tensor, block: int) -> torch.Tensor:
    """Round rows that were looked up in a table of 4 bits with a scale for each block.

    A block's scale is that of the least squared error among 16, in 16 bits, as in
    `arithmetic.blocks.quantize_block_table` for a table of no extreme values. Where two of them
    err alike to the last digits, another one may be taken, because sums of float32 depend on their
    order.

    Parameters
    ----------
    rows : torch.Tensor
        float32 (…, width); `block` divides the width.
    block : int
    """
    values = rows.detach().unflatten(-1, (-1, block))
    most = values.abs().amax(-1, keepdim=True)
    most = torch.where(values.amax(-1, keepdim=True) == most, -most, most)
    best_error = torch.full_like(most, torch.inf)
    best = torch.zeros_like(values)
    for shrink in SHRINKS:
        scale = _over(most * float(shrink), 7).half().float()
        scale = torch.where(scale.abs() < TINY, 1.0, scale)
        made = (values / scale).round().clamp_(-8, 7) * scale
        error = (made - values).square().sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best = torch.where(better, made, best)
    found: torch.Tensor = _Through.apply(rows, best.flatten(-2))
    return found
