"""Keep the keys and values of a language model in 8 bits: a quarter of the memory of a long text.

For graphs whose attention is a kernel that keeps its cache itself (`export` with ``kernels``). Each
channel of each head has a scale, from its largest value in the calibration set; weights stay as
they are, so that a stage for these may stand before or behind.
"""

from __future__ import annotations

from typing import ClassVar

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.stages._fields.inputs import CalibrationFields
from edgecompress.values import Candidate, OnnxModel, Step


class Cache(CalibrationFields, Transform):
    """Keys and values of grouped-query attention in int8."""

    also_called: ClassVar[tuple[str, ...]] = ("kv_cache", "kv-cache", "kv")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    def leaves_quantizing(self) -> bool:
        """Whether linear layers are left for another stage: all of them are."""
        return True

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what is kept."""
        layers = step.decisions.get("layers")
        of = f" of {layers} layers" if isinstance(layers, int) else ""
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
        from edgecompress.quantization.write.cache import attentions, kept_outputs, write_cache

        source = onnx_model(candidate)
        stored = read_model(source.path)
        given = decisions.record.get("largest")
        names = kept_outputs(attentions(stored))
        if not isinstance(given, dict) or {*given} != {*names}:
            raise StageError("quantize.cache has no record of this graph; run the recipe again")
        write_cache(stored, {name: np.array(given[name]) for name in names})
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.path.parent.mkdir(parents=True)
        write_model(stored, model.path)
        open_session(model)
        return candidate.with_model(model, learned_ranges=candidate.ranges, layers=len(names) // 2)
