"""Cut the vectors of a sentence encoder to their first numbers.

Models that were trained so ("Matryoshka", Kusupati et al., 2022, "Matryoshka representation
learning") keep most of what they know in the first numbers; of others it costs more. What is left
is brought to the length 1 again where the model's vectors have it.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Step, TorchModel


class Vectors(Transform):
    """Shorter vectors of a sentence encoder: the first numbers of each, of length 1 again."""

    also_called: ClassVar[tuple[str, ...]] = ("matryoshka", "truncate")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel

    dimensions: PositiveInt
    """How many numbers of each vector stay."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say how long vectors are."""
        found = step.decisions
        return f"Cut vectors to their first {found.get('kept')} numbers of {found.get('before')}."

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write a copy of the model that gives shorter vectors.

        Raises
        ------
        StageError
            When the model gives no vectors, or shorter ones already.
        """
        from edgecompress.modules.sentence_encoder import SentenceEncoder
        from edgecompress.surgery.model import load_module, save_module

        module = load_module(candidate.model)
        if not isinstance(module, SentenceEncoder):
            raise StageError(f"vectors: {candidate.task} gives no vectors to cut")
        before = module.width
        if self.dimensions > before:
            raise StageError(
                f"vectors: its vectors have {before} numbers, and dimensions {self.dimensions} "
                "asks for more"
            )
        module.cut(self.dimensions)
        model = save_module(module, context.folder / "model")
        return candidate.with_model(model, before=before, kept=self.dimensions)
