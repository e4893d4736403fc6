"""A model that finds objects: transformers' own, with its boxes and scores in one tensor as well.

One tensor goes the same way through training, export and a bundle as any other model's answer.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class DetectionsOutput(ModelOutput):
    """What such a model gives.

    Attributes
    ----------
    detections : torch.Tensor
        float (batch, queries, 4 + classes): centre and size of each box as shares of what is fed,
        then the probability of each class.
    loss : torch.Tensor, optional
        Where there were labels: transformers' own, of this family.
    """

    detections: torch.Tensor | None = None
    loss: torch.Tensor | None = None


@functools.cache
def detections_of(head: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Give the class over a head of transformers, as ``YolosDetectionsForObjectDetection``."""
    losses = importlib.import_module("transformers.loss.loss_utils").LOSS_MAPPING

    def __init__(self: Any, config: Any) -> None:  # noqa: N807 - the class's
        head.__init__(self, config)
        if head.__name__ in losses:  # transformers finds a family's loss by the name of the class
            self.loss_type = head.__name__

    masked = "pixel_mask" in inspect.signature(head.forward).parameters

    def forward(
        self: Any, pixel_values: Any = None, pixel_mask: Any = None, labels: Any = None
    ) -> DetectionsOutput:
        """Give boxes and probabilities, float (batch, queries, 4 + classes)."""
        given = {"pixel_mask": pixel_mask} if masked else {}
        found = head.forward(
            self, pixel_values=pixel_values, labels=labels, return_dict=True, **given
        )
        scores = found.logits
        if scores.shape[-1] > self.config.num_labels:  # the last class is «nothing»
            scores = scores.softmax(-1)[..., : self.config.num_labels]
        else:
            scores = scores.sigmoid()
        return DetectionsOutput(torch.cat((found.pred_boxes, scores), dim=-1), found.loss)

    def forward_without(
        self: Any, pixel_values: Any = None, labels: Any = None
    ) -> DetectionsOutput:
        """Give boxes and probabilities, float (batch, queries, 4 + classes)."""
        return forward(self, pixel_values, None, labels)

    made: type[PreTrainedModel] = type(
        f"{head.__name__.removesuffix('ForObjectDetection')}DetectionsForObjectDetection",
        (head,),
        {
            "__module__": __name__,
            "__doc__": f"{head.__name__} with boxes and probabilities in one tensor.",
            "config_class": head.config_class,
            "__init__": __init__,
            "forward": forward if masked else forward_without,
        },
    )
    return made
