"""Stages that write an ONNX model whose answers must be those of the fp32 model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgecompress.quantization.prove.judging import MOST_SAMPLES, Judge, judging_samples
from edgecompress.stage import Context, Decisions, Transform
from edgecompress.values import Candidate

if TYPE_CHECKING:
    from edgecompress.models.storage import StoredModel
    from edgecompress.values import Feed


class Judged(Transform):
    """A stage that writes an ONNX model whose answers are compared with those it had before."""

    force: bool = False
    """Keep the result although its answers are no longer those of the fp32 model."""
    part: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of a model of several graphs the one that it works on, such as `encoder`; left out, all."""

    def choose(self, candidate: Candidate, context: Context) -> Decisions:
        """Decide what is to be written; nothing where the fields say it all."""
        return Decisions()

    @abstractmethod
    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the model once; the weights that are `held` stay in fp32."""

    def parts(self, stored: StoredModel) -> Sequence[str]:
        """Give the weights that can be held in fp32 one by one, in the graph's order."""
        from edgecompress.quantization.graphs.constants import lift_constants
        from edgecompress.quantization.graphs.layers import find_layers, name_nodes

        name_nodes(stored)
        lift_constants(stored)
        layers = [layer for layer in find_layers(stored) if not layer.refused]
        return list(dict.fromkeys(next(filter(None, layer.weights)) for layer in layers))

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Choose, write, compare answers, and find the layers that must stay in fp32.

        Raises
        ------
        StageError
            When the answers are no longer those of the fp32 model.
        """
        from edgecompress.models.inputs import onnx_model

        source = onnx_model(candidate)
        fields: Any = self

        given = getattr(self, "inputs", None) is not None

        def samples() -> tuple[Sequence[Feed], str]:
            if not given and context.whole is not None and self.reads_examples():
                # Ranges of what a part is given hold for nothing that is made up.
                data = fields.calibration_data(candidate, source, context)
                return list(islice(data.feeds(), MOST_SAMPLES)), "calibration samples"
            if not given:
                return judging_samples(candidate, context)
            most = min(getattr(self, "samples", None) or MOST_SAMPLES, MOST_SAMPLES)
            return list(fields.given_data(candidate, source, most).feeds()), "calibration samples"

        judge = Judge(
            source, samples, context.scratch, context.progress, given=given, force=self.force
        )
        chosen = self.choose(candidate, context)

        def write(held: Mapping[str, str]) -> Candidate:
            record = {**chosen.record, **({"held": dict(held)} if held else {})}
            return self.write(candidate, replace(chosen, record=record), context)

        made, held, answers = judge.run(write, self.parts)
        record = {**chosen.record, **({"held": held} if held else {})}
        return Decisions(record, {**chosen.measured, "answers": answers}, made)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Give the model that was judged, or write it as it was recorded; nothing is compared."""
        made: Candidate | None = decisions.made
        return self.write(candidate, decisions, context) if made is None else made


def held(decisions: Decisions) -> dict[str, str]:
    """Give the weights that stay in fp32 because a model without them gave no answers, and why."""
    return {str(name): str(why) for name, why in decisions.record.get("held", {}).items()}
