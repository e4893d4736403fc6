"""Instructions per inference on an emulated processor. Counts are not cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgecompress.targets.base import Feeds, Job, JobModel, Mode, Readings
from edgecompress.targets.probe import Probe
from edgecompress.values import Json, Measurement, Model, OnnxModel

KINDS = ("dot_product", "fma", "multiply_add", "load_store")


@dataclass(frozen=True, eq=False)
class Instructions(Probe):
    """Count the ``instructions`` of an inference, on one thread.

    All of them, and by kind (slices ``kind:dot_product``: integer dot products, ``kind:fma``,
    ``kind:multiply_add``: integer without dot product, ``kind:load_store``) as far as the emulator
    tells them apart. What the harness itself takes is counted with a model that does nothing, and
    left out.
    """

    mode: ClassVar[Mode] = "instructions"
    needs: ClassVar[str] = "instructions"
    accepts: ClassVar[tuple[type[Model], ...]] = (OnnxModel,)
    count: ClassVar[int] = 8  # lengths spread over the data's; counts of one input do not vary

    def job(self, feeds: Feeds) -> Job:
        """Make the job; no clock has a say in it."""
        return Job(self.mode, (JobModel(self.candidate.model), JobModel(None)), (feeds,))

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:  # noqa: ARG002
        """Give what each kind has beyond the model that does nothing."""
        own, null = readings.instructions
        count = int(own["inferences"])
        conditions: Json = {
            "threads": 1,
            "inputs": count,
            "source": source,
            "harness": round(null["all"] / max(int(null["inferences"]), 1)),
        }
        return tuple(
            Measurement(
                "instructions",
                float(round((own[kind] - (null.get(kind) or 0)) / max(count, 1))),
                "count",
                self.target.name,
                slice=None if kind == "all" else f"kind:{kind}",
                samples=count,
                conditions=conditions,
            )
            for kind in ("all", *KINDS)
            if own.get(kind) is not None
        )
