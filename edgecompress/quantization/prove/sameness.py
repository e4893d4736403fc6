"""Whether an fp32 model whose weights were moved about answers as before."""

from __future__ import annotations

from itertools import islice

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.inputs import largest_difference
from edgecompress.models.runner import open_onnx
from edgecompress.quantization.observe.calibration_data import CalibrationData
from edgecompress.values import OnnxModel

SAMPLES = 4
TOLERANCE = 1e-4
"""Largest absolute difference of fp32 outputs, relative to their largest value. Powers of two round
nothing; what is left is how ONNX Runtime orders the sums of graphs that it fuses differently."""


def check_same(
    source: OnnxModel, made: OnnxModel, data: CalibrationData, what: str, stage: str
) -> float:
    """Compare the fp32 answers on the first samples; give the largest relative difference.

    Parameters
    ----------
    source, made : OnnxModel
    data : CalibrationData
    what : str
        What was done, such as ``smoothing``.
    stage : str
        What to leave out where it fails.

    Raises
    ------
    StageError
        When the answers are others.
    """
    before, after = open_onnx(source), open_onnx(made)
    worst = 0.0
    for feed in islice(data.feeds(), SAMPLES):
        expected = before.values(feed)
        most = max((float(np.abs(one).max()) for one in expected if one.size), default=0.0)
        gap = largest_difference(expected, after.values(feed), feed)
        worst = max(worst, gap / max(most, 1e-6))
    if not worst <= TOLERANCE:
        raise StageError(
            f"{what} changed the fp32 answers by {worst:.2g} of their largest value, and it must "
            f"not: report this model's graph, and leave {stage} out"
        )
    return worst
