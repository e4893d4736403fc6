"""``evaluate``: how well a candidate answers the validation examples on a target.

Int8 kernels differ from processor to processor, so that a target is judged by the answers that it
gave itself. The teacher answers once per set of examples, on this machine.
"""

from __future__ import annotations

from typing import ClassVar

from edgecompress.stage import Context, Kind, Observer
from edgecompress.values import Candidate, Measurement, OnnxModel, TorchModel


class Evaluate(Observer):
    """Measure accuracy, agreement with the teacher and calibration."""

    by_part: ClassVar[bool] = False
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel, TorchModel)

    target: str = "local"
    """Where an ONNX model is to answer; a PyTorch model answers on this machine."""

    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Score `candidate` on the validation split.

        Raises
        ------
        DataError
            When the candidate has no task or tokenizer, or there are no validation examples.
        """
        from edgecompress.targets.accuracy import observe_accuracy

        return observe_accuracy(candidate, context.validation, "validation", self.target, context)
