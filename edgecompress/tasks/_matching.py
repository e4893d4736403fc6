"""How far a detector's boxes are from those of another: matched first, as nothing orders them.

In PyTorch tensors, whose methods suffice; torch itself is not imported here.
"""

from __future__ import annotations

from typing import Any

from edgecompress.errors import StageError

BOX = 5.0
"""What a difference of boxes counts beside one of classes: DETR's own (Carion et al., 2020)."""
LEAST = 1e-4
"""Probabilities are held this far from 0 and 1, where a logarithm has no end."""


def boxes_apart(student: Any, teacher: Any) -> Any:
    """Give the least distance of two sets of boxes, over all ways to pair them.

    A pair is apart by the divergence of its classes' probabilities, each by itself, and by the
    difference of its boxes, which counts as the teacher is sure that something is there. A box of
    the student's that has no partner should be nothing. The sum is shared among the objects that
    the teacher sees. Matched as in DETR's loss, of the teacher's answers in place of labels (as in
    KD-DETR, Wang et al., 2024, whose weights these are, too).

    Parameters
    ----------
    student, teacher : torch.Tensor
        float (images, boxes, 4 + classes): centre and size as shares of the image, probabilities.
        The numbers of boxes may differ.

    Returns
    -------
    torch.Tensor
        float (images,), at least 0, and 0 where both are the same.

    Raises
    ------
    StageError
        Without scipy.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise StageError("boxes are matched by scipy, which is not installed: pip install scipy"
                         ) from None  # fmt: skip

    found = student.new_zeros(len(student)).float()
    for image, (ours, its) in enumerate(zip(student.float(), teacher.float(), strict=True)):
        scores, wanted = ours[:, 4:].clamp(LEAST, 1 - LEAST), its[:, 4:].clamp(LEAST, 1 - LEAST)
        sure = its[:, 4:].amax(-1)
        known = (wanted * wanted.log() + (1 - wanted) * (1 - wanted).log()).sum(-1)
        said = scores.log() @ wanted.T + (1 - scores).log() @ (1 - wanted).T
        places = (ours[:, None, :4] - its[None, :, :4]).abs().sum(-1)
        costs = known - said + BOX * sure * places
        mine, other = linear_sum_assignment(costs.detach().cpu().numpy())
        alone = [number for number in range(len(ours)) if number not in set(mine.tolist())]
        nothing = -(1 - scores[alone]).log().sum()
        found[image] = (costs[mine, other].sum() + nothing) / sure.sum().clamp(min=1)
    return found
