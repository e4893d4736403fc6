"""The fields that the vocabulary's stages have in common."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from edgecompress.data.corpus import TRAIN, Corpus, check_corpus, corpus_identity
from edgecompress.errors import DataError
from edgecompress.stage import Transform
from edgecompress.values import Json


class ReadsCorpus(Transform):
    """A stage that is told by texts which pieces are needed."""

    corpus: Corpus = (TRAIN,)
    """Texts that say which pieces are needed: `train`, files of plain text, or `{file: PATH,
    format: conll}`. What the training split needs goes before what files need."""

    @field_validator("corpus")
    @classmethod
    def _some_corpus(cls, corpus: Any) -> Any:
        if not corpus:
            raise ValueError("name at least one text, such as train")
        return corpus

    def check_task(self, name: str) -> None:
        """Refuse a task whose models answer in the pieces that they read."""
        from edgecompress.tasks import task

        if task(name).generates:
            raise DataError(
                f"a model of {name} writes with the pieces that it reads, and none of them can be "
                "taken away or shared yet; leave it out"
            )

    def identity(self) -> Json:
        """Give the parameters with digests in the place of the corpus' files."""
        return {**self.model_dump(mode="json"), "corpus": corpus_identity(self.corpus)}

    def check_inputs(self) -> None:
        """Read the corpus' files once."""
        check_corpus(self.corpus)
