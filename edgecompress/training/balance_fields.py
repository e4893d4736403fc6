"""The field `balance` of the stages that train: how often each data file is drawn (no torch here).

Sources: sampling by size to the power 1/T as in Conneau et al., 2020, "Unsupervised cross-lingual
representation learning at scale"; what lags behind as in Sagawa et al., 2020, "Distributionally
robust neural networks for group shifts", with the group weights held near their start as in Li et
al., 2021, "Tilted empirical risk minimization".
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from edgecompress.errors import DataError
from edgecompress.words import meant


class Balance(BaseModel):
    """Draw examples of some data files more often than others; an epoch is as long as it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """How often examples of a data file are drawn beside those of the others, which have 1:
    {pcm: 2} draws those of pcm/train.txt twice as often."""
    temperature: float = Field(default=1.0, ge=1)
    """Draw a file in proportion to its number of examples to the power 1/temperature: 1 leaves the
    files as large as they are, a large number makes them alike."""
    lagging: float = Field(default=1.0, ge=1)
    """`distil` only: how many times as often the file on which the student scores farthest below
    the teacher in validation is drawn in the next epoch, beside one on which it does not; 1: no
    more often."""

    def __hash__(self) -> int:
        """Hash it as it is written: a mapping by itself has no hash, and chains are compared."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _does_something(self) -> Balance:
        if not self.weights and self.temperature == 1 and not self.compares:
            raise ValueError("balance changes nothing; give weights, temperature or lagging")
        return self

    @property
    def compares(self) -> bool:
        """Whether scores are compared with the teacher's."""
        return self.lagging > 1

    def check_sources(self, sources: Collection[str]) -> None:
        """Refuse weights of files that no example comes from.

        Raises
        ------
        DataError
            Naming those that there are.
        """
        for name in self.weights:
            if name not in sources:
                known = sorted(filter(None, sources))
                there = meant(name, known) if known else "; the data names no files"
                raise DataError(f"balance.weights: no example comes from {name!r}{there}")
