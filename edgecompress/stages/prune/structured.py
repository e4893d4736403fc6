"""Remove attention heads, feed-forward neurons and hidden channels for good, without training.

How many of them go is a share of each, or what a target leaves room for: a size, a number of
multiply-accumulates, or a latency by a table that is measured where the model will run. Layers end
up with different numbers of heads and neurons. What is left is then fitted to the original, block
by block, on the same calibration text.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.stages._fields.cost_target import CostTarget
from edgecompress.values import Candidate, Json, Step, TorchModel

MEASURED_WIDTHS = 16
"""Widths of the feed-forward part that a latency table holds, and at most so many of attention."""

UNTIMED = (
    "attention whose queries share keys is not timed yet; give macs or size in the place of latency"
)


class Structured(Transform):
    """Smaller matrices, by a calibration pass over training examples."""

    also_called: ClassVar[tuple[str, ...]] = ("heads", "neurons", "ffn", "width")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    heads: float = Field(default=0.0, ge=0, lt=1)
    """Share of all attention heads to remove; every layer keeps one."""
    ffn: float = Field(default=0.0, ge=0, lt=1)
    """Share of all feed-forward neurons to remove; every layer keeps `multiple_of`."""
    hidden: float = Field(default=0.0, ge=0, lt=1)
    """Share of the channels of the hidden states to remove."""
    scope: Literal["global", "layer"] = "global"
    """Rank heads and neurons over all layers together, or take the same share of each layer."""
    target: CostTarget | None = None
    """Instead of `heads` and `ffn`: what the model may cost; the search divides it among heads and
    neurons of all layers."""
    importance: Literal["fisher", "taylor", "magnitude"] = "fisher"
    """By the Fisher information of masks with labels that the model draws itself, by the squared
    effect on the loss with the data's labels (Taylor), or by the size of the weights."""
    rearrange: bool = True
    """Choose within a layer by the joint effect of what is removed; not with magnitude."""
    reconstruct: bool = True
    """Fit what is left to the original by least squares, block by block."""
    ridge: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    """How strongly the fit stays near the weights that were there, as a share of the mean square
    of their inputs."""
    samples: PositiveInt = 512
    """Training examples that importance is estimated on, and the fit is made on."""
    multiple_of: PositiveInt = 16
    """A pruned layer keeps a multiple of this many neurons, and the hidden states of this many
    channels: int8 kernels work on such blocks."""

    @model_validator(mode="after")
    def _removes_something(self) -> Structured:
        if self.target is not None and (self.heads or self.ffn):
            raise ValueError("give a target, or shares (heads, ffn), not both")
        if self.target is not None and self.scope == "layer":
            raise ValueError("scope: layer takes a share of each layer; a target divides them")
        if self.target is not None and self.importance == "magnitude":
            raise ValueError(
                "magnitude does not compare heads with neurons, as a target needs it; "
                "use fisher or taylor"
            )
        if not (self.heads or self.ffn or self.hidden or self.target):
            raise ValueError(
                "prune.structured removes nothing; give heads, ffn, hidden or a target"
            )
        return self

    def check_task(self, name: str) -> None:
        """Refuse to time attention whose queries share keys: its parts are not timed yet."""
        from edgecompress.tasks import task

        if self.target is not None and self.target.latency and task(name).generates:
            raise DataError(f"target: {UNTIMED}")

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was removed."""
        from edgecompress import telling

        gone = telling.removed(step.decisions)
        if not gone:
            return ""
        how = {
            "fisher": ": those whose absence was estimated to change the answers least",
            "taylor": ": those whose absence was estimated to cost least",
            "magnitude": ": those with the smallest weights",
        }.get(str(step.parameters.get("importance")), "")
        fitted = step.parameters.get("reconstruct")
        fit = " The rest was fitted to the whole model." if fitted else ""
        return f"Removed {gone}{how}.{fit}{telling.doubt(step)}"

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Decide how many heads and neurons each layer keeps.

        Raises
        ------
        StageError
            When a layer would be left empty, the target cannot be met, or the model is of a kind
            that cannot be pruned or fitted.
        """
        cut = _Cut(self, candidate, context)
        record = {"heads": cut.kept.heads, "neurons": cut.kept.counts[1]}
        return Decisions(record, cut.plan.measured, made=cut)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Cut a copy of the model, fit what is left to the original, and write it.

        Raises
        ------
        StageError
            When the record is of another model.
        """
        from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.training.reconstruction import Remains, reconstruct

        cut = decisions.made or _Cut(self, candidate, context, decisions.record)
        module, kept, before = cut.module, cut.kept, cut.plan.before
        keep_heads_and_neurons(module, kept.heads, kept.neurons)
        measured: Json = {}
        if self.reconstruct:
            total = len(before[0])
            measured["reconstruction"] = reconstruct(
                module,
                load_module(candidate.model),
                cut.work.rows,
                Remains(kept.heads, kept.neurons, cut.hidden),
                self.ridge,
                lambda done: context.progress(done, total, "blocks fitted"),
            )
        hidden: Json = {}
        if cut.hidden is not None:
            hidden = {"hidden": len(cut.hidden), "hidden_before": cut.plan.wide}
        return candidate.with_model(
            save_module(module, context.folder / "model"),
            measured=measured,
            heads=kept.heads,
            neurons=kept.counts[1],
            heads_before=before[0],
            neurons_before=before[1],
            **hidden,
        )

    def channel_count(self, wide: int) -> int:
        """Give how many hidden channels are left."""
        if not self.hidden:
            return wide
        count = int((1 - self.hidden) * wide + 1e-9) // self.multiple_of * self.multiple_of
        if not count:
            raise StageError(
                f"hidden: {self.hidden:g} would leave no {self.multiple_of} of {wide} channels; "
                f"remove at most {1 - self.multiple_of / wide:.3f}"
            )
        return count


class _Cut:
    """A copy of the model without the hidden channels that go, and what else is to go.

    `record` holds how many heads and neurons stay; without it that is decided.
    """

    def __init__(
        self,
        stage: Structured,
        candidate: Candidate,
        context: Context,
        record: Json | None = None,
    ) -> None:
        from edgecompress.surgery.families import blocks
        from edgecompress.surgery.hidden import hidden_size, keep_hidden
        from edgecompress.surgery.model import load_module
        from edgecompress.training.reconstruction import check_fits
        from edgecompress.training.structure import sizes

        self.module = load_module(candidate.model)
        if stage.target and stage.target.latency and next(blocks(self.module)).group > 1:
            raise StageError(f"target: {UNTIMED}")
        channels = stage.channel_count(hidden_size(self.module))
        widest = max(sizes(self.module)[1])
        if widest < stage.multiple_of and (stage.ffn or stage.target):
            raise StageError(
                f"multiple_of is {stage.multiple_of}, but no layer has more than {widest} "
                "neurons; lower it"
            )
        if stage.reconstruct:
            check_fits(self.module)
        self.work = _Calibration(stage, candidate, self.module, context)
        self.plan = _Plan(stage, self.module, self.work, context, record)
        self.hidden = self.work.channels(channels)
        if self.hidden is not None:
            keep_hidden(self.module, self.hidden)
        self.kept = self.plan.kept(self.module)


class _Calibration:
    """What the calibration pass says of the model before it is cut."""

    def __init__(
        self, stage: Structured, candidate: Candidate, module: Any, context: Context
    ) -> None:
        from edgecompress.training import importance
        from edgecompress.training.encoding import labelled_rows, make_rows
        from edgecompress.training.rows import sample

        self.stage = stage
        self.gradients = None
        chosen = sample(context.train, stage.samples, context.seed)
        by_loss = stage.importance != "magnitude"
        if by_loss or stage.reconstruct or stage.target is not None:
            read = labelled_rows if stage.importance == "taylor" else make_rows
            self.rows = read(candidate, chosen, module)
        if not by_loss:
            self.importance = importance.magnitude(module)
            return
        total = len(self.rows)
        self.gradients = importance.mask_gradients(
            module,
            self.rows,
            lambda done: context.progress(done, total, "importance"),
            labels="model" if stage.importance == "fisher" else "data",
            hidden=stage.hidden > 0,
            fast=True,
            seed=context.seed,
        )
        self.importance = importance.squared(self.gradients)

    def channels(self, count: int) -> list[int] | None:
        """Name the most important hidden channels; None where none is to leave."""
        from edgecompress.training.masksearch import best

        scores = self.importance.hidden
        return None if not self.stage.hidden or scores is None else best(scores, count)

    @property
    def tokens(self) -> int:
        """Median length of the calibration text in tokens."""
        import numpy as np

        return int(np.median(self.rows.lengths))


class _Plan:
    """Which heads and neurons stay."""

    def __init__(
        self,
        stage: Structured,
        module: Any,
        work: _Calibration,
        context: Context,
        record: Json | None,
    ) -> None:
        from edgecompress.surgery.hidden import hidden_size
        from edgecompress.training import structure

        self.stage, self.work, self.context, self.record = stage, work, context, record
        self.measured: Json = {}
        self.before = structure.sizes(module)
        self.wide = hidden_size(module)
        searches = stage.target is not None and record is None
        self.whole = self._costs(module).total(*self.before) if searches else 0.0

    def kept(self, module: Any) -> Any:
        """Choose how many, then which; `module` has lost its hidden channels already."""
        from edgecompress.training import structure

        counts = self._counts(module)
        gradients = self.work.gradients
        if self.stage.rearrange and gradients is not None:
            return structure.rearranged(gradients, counts)
        return structure.most_important(self.work.importance, counts)

    def _counts(self, module: Any) -> tuple[list[int], list[int]]:
        from edgecompress.training import structure

        stage, found = self.stage, self.work.importance
        if self.record is not None:
            return self._recorded(self.record)
        if stage.target is None:
            heads = self._best(found.heads, stage.heads, "heads", 1)
            neurons = self._best(found.neurons, stage.ffn, "ffn", stage.multiple_of)
            return structure.Kept(heads, neurons).counts
        aim = "latency" if stage.target.latency else "macs" if stage.target.macs else "size"
        if aim == "size":
            bound = stage.target.weights(self.whole)
        else:
            bound = getattr(stage.target, aim) * self.whole
        counts = (
            [self._steps(count, 1) for count in self.before[0]],
            [self._steps(count, stage.multiple_of) for count in self.before[1]],
        )
        costs = self._costs(module)
        chosen = structure.under_bound(found, costs, counts, bound, aim, self.whole)
        self.measured[aim] = round(costs.total(*chosen) / self.whole, 4)
        return chosen

    def _best(self, scores: Any, remove: float, what: str, multiple: int) -> list[list[int]]:
        from edgecompress.training.importance import keep_best

        if self.stage.scope == "global":
            return keep_best(scores, remove, what, multiple)
        return [keep_best([layer], remove, what, multiple)[0] for layer in scores]

    def _recorded(self, recorded: Json) -> tuple[list[int], list[int]]:
        """Give what was decided when this model was first made; nothing is timed."""
        try:
            heads = [len(kept) for kept in recorded["heads"]]
            neurons = [int(count) for count in recorded["neurons"]]
        except (KeyError, TypeError, ValueError):
            heads, neurons = [], []
        pairs = [*zip(heads, self.before[0], strict=False)]
        pairs += zip(neurons, self.before[1], strict=False)
        layers = len(self.before[0])
        if len(heads) != layers or len(neurons) != layers or not all(0 < n <= m for n, m in pairs):
            raise StageError(
                "prune.structured has no record of how many heads and neurons it left in the "
                f"{layers} layers of this model; run the recipe again"
            )
        return heads, neurons

    def _steps(self, there: int, multiple: int) -> list[int]:
        from edgecompress.training import structure

        target = self.stage.target
        if target is not None and target.latency:
            return structure.steps(there, multiple, MEASURED_WIDTHS)
        return structure.steps(there, multiple, there)

    def _costs(self, module: Any) -> Any:
        """Say what parts of `module` cost in the target's measure."""
        from edgecompress.training import structure

        target = self.stage.target
        if target is None or target.size:
            return structure.weight_costs(module)
        if target.macs:
            return structure.mac_costs(module, self.work.tokens)
        table = self._table(module, target)
        self.measured["table"] = table.as_json()
        return structure.table_costs(module, table.heads, table.neurons)

    def _table(self, module: Any, target: CostTarget) -> Any:
        from edgecompress.quantization.write.timed_graphs import (
            PartShape,
            write_attention,
            write_feed_forward,
        )
        from edgecompress.surgery.families import blocks
        from edgecompress.surgery.hidden import hidden_size
        from edgecompress.targets.latency_table import latency_table

        block = next(blocks(module))
        width = hidden_size(module)
        shape = PartShape(width, block.head_size, block.gated, self.work.tokens, target.deployed)
        heads: set[int] = set()
        neurons: set[int] = set()
        for count, number in zip(*self.before, strict=True):
            # The model before is timed whole; only the narrower one is searched.
            alone = self.stage.hidden > 0 and width == self.wide
            heads |= {count} if alone else {*self._steps(count, 1)}
            neurons |= {number} if alone else {*self._steps(number, self.stage.multiple_of)}
        return latency_table(
            shape.as_json(),
            (
                sorted(heads),
                lambda count, folder: write_attention(shape, count, folder),
            ),
            (sorted(neurons), lambda n, folder: write_feed_forward(shape, n, folder)),
            shape.copies,
            self.context,
            self.context.target(target.on),
            target.threads,
        )
