"""Fewer layers and a narrower model at once: the shape that loses least for the time it may take.

Depth, width of the hidden states, heads and neurons are weighed by how far the answers move without
them, and by one table of times that is measured where the model will run; or the shape is named.
Nothing is trained: what such a cut costs is for `distil` behind it to heal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Json, Step, TorchModel

MEASURED_WIDTHS = 6
"""Widths of the hidden states among which a shape is chosen, at most."""
FITTED = 2
"""Of each depth so many shapes, those whose answers move least, are fitted and run again."""
PARTS = ("layers", "hidden", "heads", "neurons")


class Shape(Transform):
    """A shape for a speed, or a named one, by a calibration pass over training examples."""

    also_called: ClassVar[tuple[str, ...]] = ("depth-and-width", "student-shape", "speedup")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    speedup: float | None = Field(default=None, gt=1, allow_inf_nan=False)
    """How many times faster than the model before in fp32, by times of its layers."""
    latency: PositiveFloat | None = None
    """Or: the milliseconds that they may take, for a text of the examples' median length."""
    layers: PositiveInt | None = None
    """How many layers stay; left out, the search decides, or all do."""
    hidden: PositiveInt | None = None
    """How many channels the hidden states keep; left out, as with layers."""
    heads: PositiveInt | None = None
    """How many attention heads each layer keeps; a head keeps its width."""
    neurons: PositiveInt | None = None
    """How many feed-forward neurons each layer keeps."""
    activation: Literal["relu"] | None = None
    """What stands between the two feed-forward matrices of each layer; left out, what stood there.
    ReLU takes less time than GELU, and moves the answers: fitting and `distil` make it good."""
    on: str = "local"
    """The target that times are measured on."""
    threads: PositiveInt = 1
    """``intra_op_num_threads`` of that measurement."""
    deployed: Literal["int8", "fp32"] = "int8"
    """The form that the model will run in."""
    multiple_of: PositiveInt = 64
    """Channels and neurons that the search tries are multiples of this: kernels work on blocks."""
    reconstruct: bool = True
    """Fit what is left of each layer to the original's by least squares."""
    ridge: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    """How strongly the fit stays near the weights that were there."""
    samples: PositiveInt = 512
    """Training examples that importance is estimated on, and the fit is made on."""

    @model_validator(mode="after")
    def _says_something(self) -> Shape:
        if self.speedup is not None and self.latency is not None:
            raise ValueError("give speedup or latency, not both")
        if not self.searches and all(getattr(self, part) is None for part in PARTS):
            raise ValueError(
                "prune.shape removes nothing; give speedup, latency, or some of "
                "layers, hidden, heads and neurons"
            )
        return self

    @property
    def searches(self) -> bool:
        """Whether times decide."""
        return self.speedup is not None or self.latency is not None

    def check_task(self, name: str) -> None:
        """Refuse to aim at a speed of models that write: their layers are not timed."""
        from edgecompress.tasks import task

        if self.searches and task(name).generates:
            raise DataError(
                f"a model of {name} is not timed by its shape; name layers, hidden, heads or "
                "neurons in the place of speedup and latency"
            )

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was removed."""
        from edgecompress import telling
        from edgecompress.words import listed

        found = step.decisions
        kept, before = telling.items(found.get("layers")), found.get("layers_before")
        parts = []
        if telling.whole(kept) and kept and isinstance(before, int) and before > len(kept):
            names = listed([str(layer) for layer in kept], len(kept))
            parts.append(f"{before - len(kept)} of {before} layers ({names} left, from 0)")
        if gone := telling.removed(found):
            parts.append(gone)
        if not parts:
            return telling.doubt(step).strip()
        speed = step.parameters.get("speedup")
        aim = f", to be {speed:g} times faster" if isinstance(speed, int | float) else ""
        return f"Removed {'; '.join(parts)}{aim}.{telling.doubt(step)}"

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Choose the shape.

        Raises
        ------
        StageError
            When the model has less than is asked for, or no shape is as fast as that.
        """
        target = context.target(self.on) if self.searches else None
        work = _Work(self, candidate, context)
        chosen, measured = work.choose(target)
        record = {
            "layers": list(chosen.layers),
            "hidden": chosen.hidden,
            "heads": work.parts(chosen).heads,
            "neurons": list(chosen.neurons),
        }
        return Decisions(record, measured, made=work)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Cut a copy of the model to the shape, fit what is left, and write it.

        Raises
        ------
        StageError
            When the record is of another model.
        """
        from edgecompress.surgery.model import save_module

        work = decisions.made or _Work(self, candidate, context)
        heads_before, neurons_before = work.before
        chosen = work.recorded(decisions.record)
        fitted = work.cut(work.module, chosen, fitted=self.reconstruct)
        gone: Json = {
            "layers_before": len(heads_before),
            "heads_before": [heads_before[layer] for layer in chosen.layers],
            "neurons_before": [neurons_before[layer] for layer in chosen.layers],
        }
        if chosen.hidden < work.wide:
            gone["hidden_before"] = work.wide
        measured = {"reconstruction": fitted} if fitted else {}
        model = save_module(work.module, context.folder / "model")
        return candidate.with_model(model, measured=measured, **gone)


class _Work:
    """A copy of the model, and what the calibration pass says of it."""

    def __init__(self, stage: Shape, candidate: Candidate, context: Context) -> None:
        from edgecompress.surgery.families import blocks, layer_list
        from edgecompress.surgery.hidden import hidden_size
        from edgecompress.surgery.model import load_module
        from edgecompress.training import importance, structure
        from edgecompress.training.encoding import make_rows
        from edgecompress.training.rows import sample

        self.stage, self.candidate, self.context = stage, candidate, context
        self.module = module = load_module(candidate.model)
        if len(layer_list(module)) > len(list(blocks(module))):
            raise StageError(
                "the layers of this model share their weights, so that none can go alone; "
                "use prune.structured"
            )
        self.before, self.wide = structure.sizes(module), hidden_size(module)
        self.block = next(blocks(module))
        if stage.searches and self.block.group > 1:
            raise StageError("attention whose queries share keys is not timed; name the shape")
        if stage.activation is not None and self.block.gated:
            raise StageError("activation: the feed-forward parts of this model are gated")
        self._check()
        chosen = sample(context.train, stage.samples, context.seed)
        self.rows = make_rows(candidate, chosen, module)
        total = len(self.rows)
        self.gradients = importance.mask_gradients(
            module,
            self.rows,
            lambda done: context.progress(done, total, "importance"),
            labels="model",
            hidden=True,
            fast=True,
            seed=context.seed,
        )
        self.importance = importance.squared(self.gradients)

    def _depths(self, moves: Any) -> list[tuple[int, ...]]:
        """Give the layers that may stay."""
        asked = self.stage.layers
        self.context.progress(0, 1, "layers left out")
        found: list[tuple[int, ...]] = moves.depths(asked or 1)
        return [kept for kept in found if asked in (None, len(kept))]

    def _widths(self) -> list[int]:
        """Give the numbers of channels that may stay."""
        if self.importance.hidden is None:
            return [self.wide]
        return self._counts(self.wide, self.stage.hidden, self.stage.multiple_of, MEASURED_WIDTHS)

    def _check(self) -> None:
        """See that the model has what is asked for."""
        heads, neurons = self.before
        there = (len(heads), self.wide, min(heads), min(neurons))
        for part, most in zip(PARTS, there, strict=True):
            asked = getattr(self.stage, part)
            if asked is not None and asked > most:
                where = " in every layer" if part in ("heads", "neurons") else ""
                raise StageError(f"{part} is {asked}, but the model has only {most}{where}")

    def choose(self, target: Any) -> tuple[Any, Json]:
        """Choose the shape, by times on `target`; what was measured for it goes with it."""
        from edgecompress.training import shape_search

        stage, (heads, neurons) = self.stage, self.before
        if not stage.searches:
            layers = tuple(range(len(heads)))
            if (stage.layers or len(heads)) < len(heads):
                (layers,) = self._depths(shape_search.Moves(self.module, self.rows))
            return shape_search.Shape(
                stage.hidden or self.wide,
                layers,
                tuple(stage.heads or heads[layer] for layer in layers),
                tuple(stage.neurons or neurons[layer] for layer in layers),
            ), {}
        moves = shape_search.Moves(self.module, self.rows)
        allowed = shape_search.Allowed(
            self._depths(moves),
            self._widths(),
            [self._counts(count, stage.heads, 1, count) for count in heads],
            [self._counts(count, stage.neurons, stage.multiple_of, count) for count in neurons],
        )
        table = self._table(allowed, target)
        times = {hidden: width.layer for hidden, width in table.widths.items()}
        frames = {hidden: width.frame for hidden, width in table.widths.items()}
        bound = stage.latency or table.before / (stage.speedup or 1)
        tried = self._tried(
            shape_search.shapes_within(self.importance, allowed, frames, times, bound), moves
        )
        if not tried:
            least = shape_search.fastest(allowed, frames, times)
            raise StageError(self._too_slow(table.before, least))
        found = tried[0][1]
        time = times[found.hidden]
        pairs = zip(found.heads, found.neurons, strict=True)
        taken = frames[found.hidden] + sum(time(few, some) for few, some in pairs)
        return found, {
            "tried": [{**shape.as_json(), "moved": _short(far)} for far, shape in tried],
            "table": table.as_json(),
            "latency": round(taken, 4),
            "speedup": round(table.before / taken, 2),
        }

    def _tried(self, shapes: Sequence[Any], moves: Any) -> list[tuple[float, Any]]:
        """Cut a copy of the model to each shape and run it; fit the best of each depth."""
        first = self._moved(shapes, moves, fitted=False)
        if not self.stage.reconstruct:
            return first
        depths: dict[int, list[Any]] = {}
        for _, shape in first:
            depths.setdefault(len(shape.layers), []).append(shape)
        best = [shape for each in depths.values() for shape in each[:FITTED]]
        return self._moved(best, moves, fitted=True)

    def _moved(self, shapes: Sequence[Any], moves: Any, *, fitted: bool) -> list[tuple[float, Any]]:
        """Say how far answers move with each shape, ascending."""
        from edgecompress.surgery.model import load_module

        found = []
        for done, shape in enumerate(shapes):
            self.context.progress(done, len(shapes), f"shapes {'fitted' if fitted else 'tried'}")
            module = load_module(self.candidate.model)
            self.cut(module, shape, fitted=fitted)
            found.append((moves.of(module), shape))
        return sorted(found, key=lambda each: each[0])

    def _counts(self, there: int, asked: int | None, multiple: int, most: int) -> list[int]:
        from edgecompress.training import structure

        return [asked] if asked else structure.steps(there, multiple, most)

    def _too_slow(self, before: float, least: float) -> str:
        if self.stage.latency is not None:
            asked, best = f"latency: {self.stage.latency:g} ms", f"takes {least:.3g} ms"
        else:
            asked = f"speedup: {self.stage.speedup:g}"
            best = f"is {before / least:.3g} times faster"
        return (
            f"{asked} cannot be met on {self.stage.on}; the fastest shape of this model {best}. "
            "Ask for less, or lower multiple_of"
        )

    def _table(self, allowed: Any, target: Any) -> Any:
        import numpy as np

        from edgecompress.quantization.write.timed_graphs import PartShape, write_encoder
        from edgecompress.targets.shape_table import shape_table

        stage, block = self.stage, self.block
        tokens = int(np.median(self.rows.lengths))

        def shape(hidden: int, form: Literal["int8", "fp32"]) -> PartShape:
            return PartShape(hidden, block.head_size, block.gated, tokens, form)

        layers = list(zip(*self.before, strict=True))
        return shape_table(
            {**shape(self.wide, stage.deployed).as_json(), "before": layers},
            lambda folder: write_encoder(shape(self.wide, "fp32"), layers, folder),
            [*allowed.hidden],
            sorted(set().union(*allowed.heads)),
            sorted(set().union(*allowed.neurons)),
            lambda hidden, each, folder: write_encoder(shape(hidden, stage.deployed), each, folder),
            self.context,
            target,
            stage.threads,
        )

    def recorded(self, record: Json) -> Any:
        """Read the shape that was decided when this model was first made; nothing is timed."""
        from edgecompress.training.shape_search import Shape as Found

        heads, neurons = self.before
        try:
            layers, some = (tuple(map(int, record[part])) for part in ("layers", "neurons"))
            few = tuple(len(kept) for kept in record["heads"])
            hidden = int(record["hidden"])
            fits = 0 < hidden <= self.wide and 0 < len(layers) == len(few) == len(some)
            fits = fits and list(layers) == sorted(set(layers)) and layers[0] >= 0
            pairs = [
                *((count, heads[layer]) for count, layer in zip(few, layers, strict=True)),
                *((count, neurons[layer]) for count, layer in zip(some, layers, strict=True)),
            ]
            fits = fits and all(0 < count <= most for count, most in pairs)
        except (KeyError, TypeError, ValueError, IndexError):
            fits = False
        if not fits:
            raise StageError(
                "prune.shape has no record of a shape of this model; run the recipe again"
            )
        return Found(hidden, layers, few, some)

    def cut(self, module: Any, shape: Any, *, fitted: bool) -> Any:
        """Cut a module; tell how well what is left could be fitted, where it is."""
        from edgecompress.surgery.activation import use_relu
        from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
        from edgecompress.surgery.hidden import keep_hidden
        from edgecompress.surgery.layers import keep_layers
        from edgecompress.surgery.model import load_module
        from edgecompress.training.reconstruction import Remains, reconstruct

        kept = self.parts(shape)
        channels = self._channels(shape.hidden)
        keep_layers(module, shape.layers)
        if channels is not None:
            keep_hidden(module, channels)
        keep_heads_and_neurons(module, kept.heads, kept.neurons)
        if self.stage.activation == "relu":
            use_relu(module)
        if not fitted:
            return None
        # Layers that stay follow each other in the original of the fit, too: none is to make good
        # what a whole layer did.
        original = load_module(self.candidate.model)
        keep_layers(original, shape.layers)
        total = len(shape.layers)
        return reconstruct(
            module,
            original,
            self.rows,
            Remains(kept.heads, kept.neurons, channels),
            self.stage.ridge,
            lambda done: self.context.progress(done, total, "layers fitted"),
        )

    def parts(self, shape: Any) -> Any:
        """Name the heads and neurons that stay in each layer that does."""
        from edgecompress.training import structure
        from edgecompress.training.importance import MaskGradients

        def of(layers: Sequence[Any]) -> list[Any]:
            return [layers[layer] for layer in shape.layers]

        found = MaskGradients(of(self.gradients.heads), of(self.gradients.neurons))
        return structure.rearranged(found, (list(shape.heads), list(shape.neurons)))

    def _channels(self, count: int) -> list[int] | None:
        """Name the most important channels; None where all stay."""
        from edgecompress.training.masksearch import best

        scores = self.importance.hidden
        return None if scores is None or count == self.wide else best(scores, count)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
