"""Remove channels of convolutions for good, without training.

Which channels hang together, and which can go at all, is found by following the operations of the
model once (`surgery.channels`), whatever its architecture. What is left may be fitted to the whole
model, layer by layer; batch normalizations are measured anew afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.stages._fields.cost_target import CostTarget
from edgecompress.values import Candidate, Json, Step, TorchModel

if TYPE_CHECKING:
    from edgecompress.training.channel_search import Aim

TOLERANCE = 1e-3
"""How far the cut model's answers may be from those of the whole one when nothing reads what was
cut, as a share of the largest answer."""
FOLLOWED = 2
"""Examples that are followed through the model."""


TIMES_FORMAT = 1
"""Of kept times; raise it when graphs or measuring change."""


class Channels(Transform):
    """Narrower convolutions, by a calibration pass over training examples."""

    also_called: ClassVar[tuple[str, ...]] = ("filters", "convolutions")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_data: ClassVar[bool] = True

    remove: float = Field(default=0.0, ge=0, lt=1)
    """Share of all channels that can go to remove."""
    target: CostTarget | None = None
    """Instead of `remove`: what the model may cost, its weights (size), multiply-accumulates (macs)
    or its time (latency, found by timing some cuts); what is missed least for what it saves goes
    first."""
    importance: Literal["fisher", "taylor", "magnitude"] = "fisher"
    """By the Fisher information of masks with labels that the model draws itself, by the squared
    effect on the loss with the data's labels (Taylor), or by the size of the weights."""
    scope: Literal["global", "layer"] = "global"
    """Rank the channels of all layers together, or take the same share from every layer."""
    samples: PositiveInt = 256
    """Training examples that importance is estimated on, and batch normalizations are measured
    on."""
    multiple_of: PositiveInt = 8
    """A layer that loses channels keeps a multiple of so many: kernels work on such blocks."""
    reconstruct: bool = False
    """Fit what is left to the whole model by least squares, layer by layer, on the same examples;
    without training it loses far less."""
    ridge: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    """How strongly the fit stays near the weights that were there, as a share of the mean square
    of their inputs."""

    @model_validator(mode="after")
    def _removes_something(self) -> Channels:
        if bool(self.remove) == (self.target is not None):
            raise ValueError("prune.channels takes remove (a share of the channels) or a target")
        return self

    @classmethod
    def check_model(cls, folder: Path) -> None:
        """Refuse what has no convolutions, and what is cut by its heads and neurons.

        Raises
        ------
        DataError
            Naming the stage to take, where there is one.
        """
        from edgecompress.checkpoint import find_weights
        from edgecompress.surgery.families import described_in

        family, file = described_in(folder), folder / "config.json"
        if family is not None:
            raise DataError(
                f"models of the type {family.model_type!r} are cut by prune.structured (heads, "
                "ffn, hidden); prune.channels is for convolutional networks",
                file=file,
            )
        try:
            shapes = find_weights(folder).shapes or {}
        except DataError:
            return  # whoever loads it says what is wrong
        if shapes and not any(len(shape) in (3, 4) for shape in shapes.values()):
            raise DataError("this model has no convolutions to remove channels of", file=file)

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was removed."""
        from edgecompress import telling

        layers = telling.items(step.decisions.get("layers"))
        try:
            before, after = (sum(int(layer[at]) for layer in layers) for at in (1, 2))
        except (TypeError, ValueError, IndexError):
            return ""
        how = {
            "fisher": ": those whose absence was estimated to change the answers least",
            "taylor": ": those whose absence was estimated to cost least",
            "magnitude": ": those with the smallest weights",
        }.get(str(step.parameters.get("importance")), "")
        alike = (
            ", the same share from every layer" if step.parameters.get("scope") == "layer" else ""
        )
        gone = f"{before - after:,} of {before:,} channels of convolutions ({after:,} left){alike}"
        fitted = telling.items(step.decisions.get("reconstruction"))
        layers_of = telling.counted(len(fitted), "layer")
        fit = f" {layers_of} fitted to the whole model by least squares." if fitted else ""
        norms = " Batch normalizations were measured anew." if step.decisions.get("norms") else ""
        if before == after:
            return telling.doubt(step).strip()
        return f"Removed {gone}{how}.{fit}{norms}{telling.doubt(step)}"

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Decide which channels stay.

        Raises
        ------
        StageError
            When no channel can be removed, or not so many.
        """
        cut = _Cut(self, candidate, context)
        kept, measured = cut.choose()
        pairs = [*zip(cut.graph.groups, kept, strict=True)]
        layers = [[group.name, group.size, len(stays)] for group, stays in pairs]
        masks = [_as_hex(stays, group.size) for group, stays in pairs]
        return Decisions({"layers": layers, "kept": masks}, measured, made=cut)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Cut a copy of the model, measure its batch normalizations anew, and write it.

        Raises
        ------
        StageError
            When the record is of another model, or the model's code knows widths by heart.
        """
        from edgecompress.surgery.model import save_module

        cut = decisions.made or _Cut(self, candidate, context)
        found = cut.make(_recorded(decisions.record, cut.graph))
        return candidate.with_model(save_module(cut.module, context.folder / "model"), **found)


class _Cut:
    """A model whose channels are chosen and cut."""

    def __init__(self, stage: Channels, candidate: Candidate, context: Context) -> None:
        from edgecompress.surgery.channels.groups import channel_graph
        from edgecompress.surgery.model import load_module
        from edgecompress.training.encoding import labelled_rows, make_rows
        from edgecompress.training.rows import sample

        self.stage, self.context = stage, context
        self.module = load_module(candidate.model)
        if isinstance(candidate.model, TorchModel):
            stage.check_model(candidate.model.directory)
        chosen = sample(context.train, stage.samples, context.seed)
        read = labelled_rows if stage.importance == "taylor" else make_rows
        self.rows = read(candidate, chosen, self.module)
        self.feed = self.rows.feed(range(min(FOLLOWED, len(self.rows))))
        self.graph = channel_graph(self.module, self.feed)
        self.whole: Candidate | None = None

    def choose(self) -> tuple[list[list[int]], Json]:
        """Name the channels that stay in each group; tell what was timed to find them."""
        from edgecompress.training.channel_search import choose_widths, most_important
        from edgecompress.training.importance import channels

        stage, total = self.stage, len(self.rows)
        asked = stage.target if stage.target is not None and stage.target.latency else None
        target = self.context.target(asked.on) if asked else None
        if stage.importance == "magnitude":
            scores = channels.by_magnitude(self.module, self.graph)
        else:
            scores = channels.by_loss(
                self.module,
                self.rows,
                self.graph,
                lambda done: self.context.progress(done, total, "importance"),
                "data" if stage.importance == "taylor" else "model",
                self.context.seed,
            )

        def kept(aim: Aim, share: float) -> list[list[int]]:
            widths = choose_widths(self.graph, scores, aim, share, stage.multiple_of, stage.scope)
            return most_important(scores, widths)

        if asked is None:
            return kept(*self._bound()), {}
        return self._in_time(asked, target, lambda share: kept("macs", share))

    def _bound(self) -> tuple[Aim, float]:
        target = self.stage.target
        if target is None:
            return "channels", 1 - self.stage.remove
        if target.macs is not None:
            return "macs", target.macs
        whole = self.graph.cost("size", [group.size for group in self.graph.groups])
        return "size", target.weights(whole) / whole

    def _in_time(
        self, asked: CostTarget, target: Any, kept: Callable[[float], list[list[int]]]
    ) -> tuple[list[list[int]], Json]:
        """Name the channels of the widest cut that takes no longer than is asked for."""
        from edgecompress.training.channel_search import least_share, share_in_time

        invalid: list[str] = []
        cuts: dict[float, list[list[int]]] = {}

        def measured(share: float) -> tuple[float, float]:
            stays = kept(share)
            left = self._left("macs", stays)
            cuts[left] = stays
            times = self._timed(stays, asked, target)
            invalid.extend([times.invalid] if times.invalid else [])
            return left, times.each[1] / times.each[0]

        least = least_share(self.graph, self.stage.multiple_of)
        share, found = share_in_time(asked.latency or 1.0, least, measured)
        shutil.rmtree(self.context.scratch / "whole", ignore_errors=True)
        told = [[round(macs, 4), round(time, 4)] for macs, time in found.items()]
        return cuts[share], {"time_by_macs": told, "invalid": invalid[0] if invalid else None}

    def _timed(self, kept: list[list[int]], asked: CostTarget, target: Any) -> Any:
        """Time the whole model and a cut one, or take the times that were kept."""
        import copy
        import json

        from edgecompress.quantization.prove.timed_model import write_timed
        from edgecompress.surgery.channels.cutting import keep_channels
        from edgecompress.targets.kept_times import kept_times

        example = {name: one[:1] for name, one in self.feed.items()}
        narrow = copy.deepcopy(self.module)
        keep_channels(narrow, self.graph, kept)

        def graph(module: Any, folder: Path) -> Candidate:
            outputs = [one.name for one in self.rows.task.outputs]
            return write_timed(module, example, outputs, folder, asked.deployed)

        def write(folder: Path) -> list[Candidate]:
            if self.whole is None:  # one graph for all cuts
                self.whole = graph(self.module, self.context.scratch / "whole")
            return [self.whole, graph(narrow, folder)]

        key: Json = {
            "kind": "latency of channels",
            "format": TIMES_FORMAT,
            "model": json.loads(self.module.config.to_json_string(use_diff=True)),
            "whole": {name: list(shape) for name, shape in self.graph.shapes.items()},
            "kept": [len(stays) for stays in kept],
            "inputs": {name: list(one.shape) for name, one in example.items()},
            "deployed": asked.deployed,
        }
        return kept_times(key, write, self.context, target, asked.threads)

    def make(self, kept: list[list[int]]) -> Json:
        """Cut the module; gives what is told of it."""
        import copy

        from edgecompress.surgery.channels.cutting import keep_channels
        from edgecompress.surgery.channels.groups import READERS
        from edgecompress.training import batch_norms
        from edgecompress.training.channel_reconstruction import reconstruct

        measured = batch_norms.measure_inputs(self.module, self.rows)
        whole = copy.deepcopy(self.module) if self.stage.reconstruct else None
        batch_norms.add_means(self.module, self.rows, self.graph, kept)
        expected = self._without(kept)
        keep_channels(self.module, self.graph, kept)
        difference = self._difference(expected)
        fitted: Json = {}
        if whole is not None:
            total = len([part for part in whole.modules() if isinstance(part, READERS)])
            fitted["reconstruction"] = reconstruct(
                self.module, whole, self.rows, self.graph, kept, self.stage.ridge,
                lambda done: self.context.progress(done, total, "layers fitted"),
            )  # fmt: skip
        measured = batch_norms.without(measured, self.graph, kept)
        norms = batch_norms.estimate_again(self.module, self.rows, measured)
        shares = {kind: round(self._left(kind, kept), 4) for kind in ("size", "macs")}
        stopped = {"not_followed": list(self.graph.stopped)} if self.graph.stopped else {}
        found = {"norms": norms, "left": shares, "max_abs_difference": difference}
        return {**found, **fitted, **stopped}

    def _left(self, kind: str, kept: list[list[int]]) -> float:
        """Give the share of a cost that is left."""
        whole = self.graph.cost(kind, [group.size for group in self.graph.groups])
        return self.graph.cost(kind, [len(stays) for stays in kept]) / whole

    def _without(self, kept: list[list[int]]) -> Any:
        from edgecompress.surgery.channels.cutting import silence

        silence(self.module, self.graph, kept)
        return self._answer()

    def _answer(self) -> Any:
        import torch

        with torch.inference_mode():
            return self.module(**self.feed)[0]

    def _difference(self, expected: Any) -> float:
        """Prove that the narrow model answers as the whole one of whose channels nothing reads."""
        try:
            found = self._answer()
        except RuntimeError as error:
            cause = str(error).partition("\n")[0]
            raise StageError(
                f"the code of this model knows the width of its layers by heart ({cause}); its "
                "channels cannot be removed"
            ) from None
        same = found.shape == expected.shape
        gap = float((found - expected).abs().max()) if same else float("inf")
        if not gap <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise StageError(
                f"without these channels the model's answers differ by {gap:.3g} from those of the "
                "whole one when nothing reads them; its channels cannot be removed"
            )
        return gap


def _as_hex(kept: list[int], size: int) -> str:
    """Write which of `size` channels stay, a bit each, the first one highest."""
    import numpy as np

    bits = np.zeros(size, bool)
    bits[kept] = True
    return np.packbits(bits).tobytes().hex()


def _recorded(record: Json, graph: Any) -> list[list[int]]:
    """Read which channels stay.

    Raises
    ------
    StageError
        When the record is missing or of another model.
    """
    import numpy as np

    found = []
    try:
        for mask, (name, size, left), group in zip(
            record["kept"], record["layers"], graph.groups, strict=True
        ):
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(mask), np.uint8))
            kept = np.flatnonzero(bits).tolist()
            if (name, size, left) != (group.name, group.size, len(kept)):
                raise ValueError(name)
            found.append(kept)
    except (KeyError, TypeError, ValueError):
        raise StageError(
            "prune.channels has no record of which channels it left in this model; run the recipe "
            "again"
        ) from None
    return found
