"""The field `gradual` of the stages that train: pruning along a schedule (no torch here).

Source of the schedule: Zhu & Gupta, 2017, "To prune, or not to prune: exploring the efficacy of
pruning for model compression".
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from edgecompress.surgery.patterns import PatternText, wanted_sparsity


class Gradual(BaseModel):
    """Prune while training: either single weights (sparsity, pattern) or heads and neurons."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True
    )

    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Share of the single weights that are zero at the end; left out with N:M, which says it."""
    pattern: PatternText = "unstructured"
    """Which weights go together: unstructured, N:M ('2:4') or blocks (4x1), as in
    prune.magnitude."""
    scope: Literal["global", "layer"] = "global"
    """Rank single weights over all matrices together, or take the same share of every one."""
    matrices: tuple[Literal["linear", "classifier"], ...] = Field(default=("linear",), min_length=1)
    """Where single weights are pruned: the encoder's linear layers, the head. (Embeddings:
    prune.magnitude before the training.)"""
    heads: float = Field(default=0.0, ge=0, lt=1)
    """Share of all attention heads that are gone at the end; every layer keeps one."""
    ffn: float = Field(default=0.0, ge=0, lt=1)
    """Share of all feed-forward neurons that are gone at the end."""
    importance: Literal["taylor", "magnitude"] = "taylor"
    """How heads and neurons are ranked: by the effect on the loss, a moving average of what the
    training's own gradients say, or by the size of their weights."""
    multiple_of: PositiveInt = 16
    """A pruned layer keeps a multiple of this many neurons: int8 kernels work on such blocks."""
    start: float = Field(default=0.1, ge=0, lt=1, alias="from")
    """Share of all steps after which pruning begins."""
    until: float = Field(default=0.7, gt=0, le=1)
    """Share of all steps at which it is done; only later epochs can be the best one."""
    every: PositiveInt = 20
    """Steps from one pruning to the next."""
    schedule: Literal["cubic", "linear"] = "cubic"
    """How the share rises: much at first and then ever less, or evenly."""

    @model_validator(mode="after")
    def _one_thing_in_order(self) -> Gradual:
        single = self.sparsity is not None or self.pattern != "unstructured"
        if single and self.structured:
            raise ValueError(
                "gradual prunes either single weights (sparsity, pattern) or heads and ffn; for "
                "both, put prune.magnitude behind this stage"
            )
        if not single and not self.structured:
            raise ValueError("gradual prunes nothing; give sparsity, or heads or ffn")
        if single:
            wanted_sparsity(self.sparsity, self.pattern)
        if self.start >= self.until:
            raise ValueError(
                f"gradual begins at {self.start:g} and ends at {self.until:g} of the steps; "
                "from must be less than until"
            )
        return self

    @property
    def structured(self) -> bool:
        """Whether heads and neurons go, not single weights."""
        return bool(self.heads or self.ffn)

    @property
    def wanted(self) -> float:
        """The share of single weights that are zero at the end."""
        return wanted_sparsity(self.sparsity, self.pattern)

    def last(self, total: int) -> int:
        """Give the step (from 1, of `total`) at which pruning is done."""
        return max(int(self.start * total) + 1, int(self.until * total))

    def due(self, done: int, total: int) -> bool:
        """Whether something is pruned after step `done` of `total`."""
        first, last = int(self.start * total), self.last(total)
        return first < done <= last and (done == last or (done - first) % self.every == 0)

    def progress(self, done: int, total: int) -> float:
        """Say how far the way to the end has come after step `done`: 0 … 1.

        >>> plan = Gradual(sparsity=0.8, **{"from": 0.0}, until=1.0)
        >>> [round(plan.progress(done, 4), 3) for done in range(5)]
        [0.0, 0.578, 0.875, 0.984, 1.0]
        """
        first, last = int(self.start * total), self.last(total)
        line = min(1.0, max(0.0, (done - first) / (last - first)))
        return line if self.schedule == "linear" else 1 - (1 - line) ** 3
