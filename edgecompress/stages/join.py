"""Put an encoder and its decoder into one graph that answers: the decoder in a loop.

Behind this stage a model of two parts is one like any other: it is timed, judged and bundled as one
graph. What works on the parts (quantization, each by its own scheme) stands before it.
"""

from __future__ import annotations

from typing import ClassVar

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, OnnxModel, Step


class Join(Transform):
    """Make one graph of an encoder and a decoder, which writes what the model says."""

    also_called: ClassVar[tuple[str, ...]] = ("merge", "loop", "assemble")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True
    by_part: ClassVar[bool] = False

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was joined."""
        steps = step.decisions.get("steps")
        most = f", for at most {steps} tokens" if isinstance(steps, int) else ""
        return f"Encoder and decoder joined in one graph, the decoder in a loop{most}."

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the graph, and see that ONNX Runtime opens it.

        Raises
        ------
        StageError
            When the model is no encoder and decoder, or its files do not say how it is asked.
        """
        from edgecompress.models.joining import join
        from edgecompress.models.session import open_session
        from edgecompress.modules.decoding import decoding_of

        source = candidate.model
        if not isinstance(source, OnnxModel) or not source.parts:
            raise StageError(
                "join takes a model of an encoder and a decoder, and this is one graph"
            )
        if candidate.preprocessor is None:
            raise StageError(
                "nothing says how this model is asked (which tokens begin and end a transcript); "
                "start from the folder that holds its generation_config.json"
            )
        how = decoding_of(candidate.preprocessor)
        model = OnnxModel(context.folder / "model" / "model.onnx", source.graphs["decoder"].session)
        model.directory.mkdir(parents=True)
        join(source.graphs, how, model.path)
        open_session(model)
        return candidate.with_model(model, steps=how.steps)
