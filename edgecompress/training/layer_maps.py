"""Which of the teacher's layers a student's layer is compared with: chosen, or learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional

from edgecompress.errors import StageError
from edgecompress.values import Json

Pairs = tuple[tuple[int, int], ...]
LayerMap = Literal["last", "uniform", "learned"] | Pairs

PACE = 100.0
"""Adam moves a parameter by about the learning rate a step, which suits weights of 0.05 and would
leave a mixture where it began; its parameters are multiplied by this."""
NEARNESS = 2.0
"""How much less a teacher layer weighs at the start per layer of distance from the uniform map."""


def layer_pairs(chosen: LayerMap, ours: int, its: int) -> Pairs:
    """Resolve a layer map for a student of `ours` and a teacher of `its` layers.

    Parameters
    ----------
    chosen : str or pairs of int
        ``last``: the last layers'. ``uniform``: every student layer with an evenly spread teacher
        layer, the last with the last. ``learned``: as ``uniform``, where the mixture begins. Or
        pairs of (student layer, teacher layer), from 0.

    Returns
    -------
    tuple of (int, int)

    Raises
    ------
    StageError
        When a pair names a layer that does not exist, or a mixture is asked of a single layer.
    """
    if chosen == "last":
        return ((ours - 1, its - 1),)
    if chosen == "learned" and its < 2:
        raise StageError(
            "layer_map: learned mixes the teacher's layers, and this teacher has only one; "
            "use layer_map: last"
        )
    if chosen in ("uniform", "learned"):
        return tuple((layer, ((layer + 1) * its + ours - 1) // ours - 1) for layer in range(ours))
    pairs = cast(Pairs, chosen)
    for student, teacher in pairs:
        if not (0 <= student < ours and 0 <= teacher < its):
            raise StageError(
                f"layer_map pairs layer {student} with the teacher's {teacher}; the student "
                f"has layers 0 to {ours - 1}, the teacher 0 to {its - 1}"
            )
    return pairs


class Mixture(nn.Module):
    """For each student layer a learned weighted mean of all teacher layers.

    The weights are a softmax, trained with the student to make the distance small; they begin
    around the uniform map. Source: Passban et al., 2021, "ALP-KD: attention-based layer projection
    for knowledge distillation"; here the attention depends on the layers and not on the tokens.

    Parameters
    ----------
    pairs : sequence of (int, int)
        Where each student layer's weights are centred at first.
    layers : int
        The teacher's.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], layers: int) -> None:
        super().__init__()
        centres = torch.tensor([its for _, its in pairs])
        away = (torch.arange(layers)[None, :] - centres[:, None]).abs().float()
        self.scores = nn.Parameter(-NEARNESS * away / PACE)

    def shares(self) -> torch.Tensor:
        """Give the weights, float (student layers, teacher layers), rows of sum 1."""
        scores = self.scores.float()
        # The gradient as if nothing was multiplied: else it would rule the clipping of all others.
        return functional.softmax(scores + (PACE - 1) * scores.detach(), dim=-1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Mix normalised hidden states.

        Parameters
        ----------
        states : torch.Tensor
            float (teacher layers, tokens, width).

        Returns
        -------
        torch.Tensor
            float32 (student layers, tokens, width).
        """
        # Normalised first: a layer with large values would be mixed in by its size.
        flat = functional.layer_norm(states.float(), states.shape[-1:]).flatten(1)
        return (self.shares() @ flat).view(len(self.scores), *states.shape[1:])

    def as_json(self) -> Json:
        """Give the weights as a step's decisions, rounded."""
        return {"layer_weights": [[round(w, 4) for w in row] for row in self.shares().tolist()]}
