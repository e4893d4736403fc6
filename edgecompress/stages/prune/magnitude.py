"""Set the weights that matter least to zero; they stay zero in every later training.

By their magnitude alone, or times how large the inputs are that they are multiplied with.

ONNX Runtime multiplies zeros like any other number, so that no inference gets faster by this. What
gets smaller is the compressed download, and with it what a bundle's archive takes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.surgery.patterns import PatternText, read_pattern, wanted_sparsity
from edgecompress.values import Candidate, Step, TorchModel

GAINS = (
    "ONNX Runtime computes with zeros as with other numbers: no inference gets faster; "
    "the compressed download gets smaller (download_size)"
)


class Magnitude(Transform):
    """Zeros for the smallest weights (unstructured, N:M or blocks): a smaller download only."""

    also_called: ClassVar[tuple[str, ...]] = ("unstructured", "sparsity", "sparse")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True

    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Share of the weights of these matrices that become zero; left out with N:M, which says it."""
    pattern: PatternText = "unstructured"
    """Which weights go together: unstructured, N:M ('2:4': 2 of every 4 inputs stay), or blocks of
    outputs x inputs (4x1, 16x1)."""
    scope: Literal["global", "layer"] = "global"
    """Rank over all matrices together, or take the same share of every one."""
    matrices: tuple[Literal["linear", "convolutions", "embeddings", "classifier"], ...] = Field(
        default=("linear",), min_length=1
    )
    """What is pruned: the encoder's linear layers, its convolutions, the table of word pieces, the
    head. A convolution is one matrix here, of its outputs and all that a kernel reads of them."""

    importance: Literal["magnitude", "activations"] = "magnitude"
    """Rank weights by their magnitude, or by that times the root mean square of their input on
    training texts (Wanda)."""
    samples: PositiveInt = 128
    """Training examples on which inputs are measured, with `importance: activations`."""

    @model_validator(mode="after")
    def _says_how_many(self) -> Magnitude:
        wanted_sparsity(self.sparsity, self.pattern)
        if self.importance == "activations" and self.matrices != ("linear",):
            raise ValueError(
                "importance: activations looks at what goes into linear layers; leave matrices out"
            )
        return self

    def reads_examples(self) -> bool:
        """Whether inputs are measured."""
        return self.importance == "activations"

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was set to zero."""
        from edgecompress import telling

        told = telling.zeros(step.decisions)
        gains = "No inference gets faster by that; the compressed download gets smaller."
        return f"Set the smallest weights to zero: {told}. {gains}" if told else ""

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write a copy of the model with the smallest weights set to zero."""
        import torch

        from edgecompress.surgery.magnitude import choose_zeros, prunable
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.surgery.sparsity import mark, shares

        module = load_module(candidate.model)
        parts = prunable(module, self.matrices)
        wanted = wanted_sparsity(self.sparsity, self.pattern)
        weights = {name: part.weight.flatten(1) for name, part in parts.items()}
        if self.importance == "activations":
            sizes = self._input_sizes(candidate, module, parts, context)
            weights = {name: weight * sizes[name] for name, weight in weights.items()}
        zeros = choose_zeros(weights, wanted, read_pattern(self.pattern), self.scope)
        with torch.no_grad():
            for name, part in parts.items():
                part.weight.masked_fill_(zeros[name].view_as(part.weight), 0.0)
                mark(part)
        model = save_module(module, context.folder / "model")
        return candidate.with_model(model, wanted=wanted, **shares(module), gains=GAINS)

    def _input_sizes(
        self, candidate: Candidate, module: Any, parts: dict[str, Any], context: Context
    ) -> Any:
        """Measure the inputs of linear layers; that of a part which never runs counts as nothing.

        Source: Sun et al., 2024, "A simple and effective pruning approach for large language
        models" (Wanda).
        """
        from edgecompress.training.encoding import make_rows
        from edgecompress.training.moments import input_sizes
        from edgecompress.training.rows import sample

        examples = sample(context.train, self.samples, context.seed)
        rows = make_rows(candidate, examples, module)
        total = len(rows)
        return input_sizes(
            module, rows, parts, lambda done: context.progress(done, total, "activations")
        )
