"""Keep the keys and values of a language model in 8 or 16 bits: less memory for a long text.

For graphs whose attention is a kernel that keeps its cache itself (`export` with ``kernels``). In 8
bits each channel of each head has a scale, from its largest value in the calibration set; weights
stay as they are, so that a stage for these may stand before or behind.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.stages._fields.inputs import CalibrationFields
from edgecompress.values import Candidate, OnnxModel, Step

CALIBRATION_FIELDS = ("calibration", "samples", "inputs")


class Cache(CalibrationFields, Transform):
    """Keys and values of grouped-query attention in int8 or fp16."""

    also_called: ClassVar[tuple[str, ...]] = ("kv_cache", "kv-cache", "kv")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    bits: Literal[8, 16] = 8
    """8: integers, with scales from samples. 16: fp16, in which attention is then computed, too; no
    samples are read."""

    @model_validator(mode="after")
    def _samples_are_for_scales(self) -> Cache:
        for name in CALIBRATION_FIELDS:
            if self.bits == 16 and getattr(self, name) is not None:
                raise ValueError(f"{name} is for bits: 8 only; leave it out")
        return self

    def reads_examples(self) -> bool:
        """Whether it reads examples: fp16 needs no scales."""
        return self.bits == 8 and super().reads_examples()

    def leaves_quantizing(self) -> bool:
        """Whether linear layers are left for another stage: all of them are."""
        return True

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what is kept."""
        layers = step.decisions.get("layers")
        of = f" of {layers} layers" if isinstance(layers, int) else ""
        if step.parameters.get("bits") == 16:
            return f"Kept the keys and values{of} in fp16."
        return f"Kept the keys and values{of} in int8, with a scale for each channel."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Find the largest value of each channel.

        Raises
        ------
        StageError
            When no attention of the graph keeps keys and values by itself.
        DataError
            When the calibration set or files of inputs are missing or malformed.
        """
        import numpy as np

        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.runner import open_onnx
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.write.cache import attentions, kept_outputs

        source = onnx_model(candidate)
        names = kept_outputs(attentions(read_model(source.path)))
        if not names:
            raise StageError(
                "no attention of this graph keeps its keys and values by itself "
                "(GroupQueryAttention); export the model here with kernels: true"
            )
        if self.bits == 16:
            return Decisions({})
        data = self.calibration_data(candidate, source, context)
        runner = open_onnx(source, outputs=names)
        largest: dict[str, np.ndarray] = {}
        for number, feed in enumerate(data.feeds()):
            context.progress(number, data.count, "keys and values")
            for name, value in runner(feed).items():
                if value.shape[2]:
                    found = np.abs(value).max(axis=(0, 2))
                    largest[name] = np.maximum(largest.get(name, found), found)
        record = {name: value.astype(float).tolist() for name, value in largest.items()}
        return Decisions({"largest": record})

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the graph with the scales.

        Raises
        ------
        StageError
            When ONNX Runtime refuses the result.
        """
        import numpy as np

        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.session import open_session
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.write.cache import (
            attentions,
            kept_outputs,
            write_cache,
            write_half_cache,
        )

        source = onnx_model(candidate)
        stored = read_model(source.path)
        given, names = decisions.record.get("largest"), kept_outputs(attentions(stored))
        if self.bits == 16:
            write_half_cache(stored)
        elif isinstance(given, dict) and {*given} == {*names}:
            write_cache(stored, {name: np.array(given[name]) for name in names})
        else:
            raise StageError("quantize.cache has no record of this graph; run the recipe again")
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.path.parent.mkdir(parents=True)
        write_model(stored, model.path)
        open_session(model)
        return candidate.with_model(model, learned_ranges=candidate.ranges, layers=len(names) // 2)
