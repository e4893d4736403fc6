"""Remove whole layers for good: named ones, evenly spread ones, or those that matter least."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt, field_validator

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Step, TorchModel


class Layers(Transform):
    """Fewer layers; which ones go is measured by what the model loses without them."""

    also_called: ClassVar[tuple[str, ...]] = ("depth", "drop-layers")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    keep: PositiveInt | tuple[int, ...]
    """How many layers to keep, or which (numbered from 0)."""
    choose: Literal["effect", "even"] = "effect"
    """With a number: drop one by one the layer that is missed least, or spread evenly."""
    measure: Literal["loss", "divergence", "influence"] | None = None
    """What tells that a layer is missed: the loss on labelled examples; how far the answers move
    from the whole model's, on any text; or how far the layer turns the hidden states, which takes
    a single pass and chooses all at once. Left out: the loss, where there are labels."""
    samples: PositiveInt = 256
    """Training examples that this is measured on."""

    @field_validator("keep")
    @classmethod
    def _ascending(cls, keep: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(keep, tuple) and (not keep or list(keep) != sorted(set(keep)) or keep[0] < 0):
            raise ValueError("name the layers to keep in ascending order, from 0, each once")
        return keep

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was kept."""
        from edgecompress import telling
        from edgecompress.words import listed

        kept, dropped = (telling.items(step.decisions.get(key)) for key in ("kept", "dropped"))
        if not telling.whole(kept) or not kept:
            return ""
        total = f"{len(kept) + len(dropped)}" if dropped else "its"
        names = listed([str(layer) for layer in kept], len(kept))
        ways = {"influence": ": those that turn the hidden states least"}
        other = ", one by one the layer that was missed least"
        how = ways.get(str(step.parameters.get("measure")), other) if dropped else ""
        some = f"{len(kept)} of {total} layers ({names}, counted from 0)"
        return f"Kept {some} and removed the others{how}."

    def check_task(self, name: str) -> None:
        """Refuse to keep a score for each piece of a vocabulary at every token of every text."""
        from edgecompress.tasks import task

        if self.measure == "divergence" and task(name).generates:
            raise DataError(
                f"measure: divergence would keep all answers of a model of {name}, a score for "
                "every piece of its vocabulary at each token; use loss or influence"
            )

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Choose the layers that stay.

        Raises
        ------
        StageError
            When the model has fewer layers than are to be kept.
        """
        from edgecompress.surgery.families import layer_list
        from edgecompress.surgery.layers import evenly_spread
        from edgecompress.surgery.model import load_module

        module = load_module(candidate.model)
        there = len(layer_list(module))
        dropped: list[dict[str, Any]] = []
        if isinstance(self.keep, tuple):
            if self.keep[-1] >= there:
                raise StageError(f"keep names layer {self.keep[-1]}; the last one is {there - 1}")
            kept = self.keep
        elif self.keep > there:
            raise StageError(f"keep is {self.keep}, but the model has only {there} layers")
        elif self.choose == "even":
            kept = evenly_spread(there, self.keep)
        else:
            kept, dropped = self._least_effect(module, candidate, context, there, self.keep)
        return Decisions({"kept": list(kept), "dropped": dropped})

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the model with the layers that stay.

        Raises
        ------
        StageError
            When the record is not of this model.
        """
        from edgecompress.surgery.layers import keep_layers
        from edgecompress.surgery.model import load_module, save_module

        try:
            kept = [int(layer) for layer in decisions.record["kept"]]
        except (KeyError, TypeError, ValueError):
            raise StageError(
                "prune.layers has no record of which layers it kept; run the recipe again"
            ) from None
        module = load_module(candidate.model)
        keep_layers(module, kept)
        return candidate.with_model(save_module(module, context.folder / "model"))

    def _least_effect(
        self, module: Any, candidate: Candidate, context: Context, there: int, keep: int
    ) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
        """Drop layers greedily: each time the one without which the model changes least."""
        from edgecompress.surgery.families import blocks
        from edgecompress.training.encoding import labelled_rows, make_rows
        from edgecompress.training.importance.effect import LayerEffects, influences
        from edgecompress.training.rows import sample

        if len(list(blocks(module))) < there:
            return tuple(range(keep)), []  # they share their weights: one is as good as another
        examples = sample(context.train, self.samples, context.seed)
        rows = make_rows(candidate, examples, module)
        measure = self.measure or ("loss" if len(rows.labelled()) else "divergence")
        if measure == "influence":
            found = influences(module, rows, lambda n: context.progress(n, len(rows), "influence"))
            order = sorted(range(there), key=found.__getitem__)[: there - keep]
            return (
                tuple(sorted(set(range(there)) - set(order))),
                [{"layer": n, "influence": float(f"{found[n]:.6g}")} for n in order],
            )
        if measure == "loss":
            rows = labelled_rows(candidate, examples, module)
        effects = LayerEffects(module, rows, measure)
        dropped: list[dict[str, Any]] = []
        total, done = sum(range(keep + 1, there + 1)), 0
        while len(effects.kept) > keep:
            found = []
            for position, layer in enumerate(effects.kept):
                found.append(effects.without(position))
                done += 1
                context.progress(done, total, f"layer {layer} left out")
            least = min(range(len(found)), key=found.__getitem__)
            rounded = [float(f"{value:.6g}") for value in found]
            without = {str(k): v for k, v in zip(effects.kept, rounded, strict=True)}
            dropped.append({"layer": effects.kept[least], f"{measure}_without": without})
            effects.leave_out(least)
        return tuple(effects.kept), dropped
