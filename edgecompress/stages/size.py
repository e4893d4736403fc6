"""``size``: how large a candidate is on disk and as a download, and how much smaller that is."""

from __future__ import annotations

from typing import ClassVar

from edgecompress.stage import Context, Kind, Observer
from edgecompress.values import Candidate, Measurement, OnnxModel, TorchModel


class Size(Observer):
    """Measure ``size``, ``download_size``, ``parameters`` and ``compression``."""

    by_part: ClassVar[bool] = False
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel, TorchModel)

    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Measure `candidate`, against the context's reference where there is one."""
        from edgecompress.targets.size import size_measurements

        reference = context.reference
        return size_measurements(candidate.model, reference.model if reference else None)
