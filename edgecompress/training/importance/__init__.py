"""How much each head, neuron, channel and layer matters, and what to keep for it.

`gradients` collects what the loss says of every part in one calibration pass; `scores` turns that,
or the weights alone, into an importance for each part; `ranking` chooses under a share of them (a
search under a target is `edgecompress.training.masksearch`); `effect` measures whole layers.
"""

from edgecompress.training.importance.gradients import MaskGradients, mask_gradients
from edgecompress.training.importance.ranking import keep_best
from edgecompress.training.importance.scores import (
    Importance,
    fisher,
    magnitude,
    squared,
    taylor,
)

__all__ = [
    "Importance",
    "MaskGradients",
    "fisher",
    "keep_best",
    "magnitude",
    "mask_gradients",
    "squared",
    "taylor",
]
