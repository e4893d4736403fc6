"""What quantizing each layer of a model costs, layer by layer and tensor by tensor.

Each part is rounded alone while all the rest stays fp32 (`switched`), and the outputs are compared
with those of the fp32 model on the same samples. What is measured is saved as it comes, so that a
pass that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from edgecompress.errors import StageError
from edgecompress.models.outputs import ComparedSamples, Cost, OutputJudge
from edgecompress.quantization.graphs.fusion import is_quantized
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.search.switched import Part, Switched
from edgecompress.quantization.search.units import Unit, chosen_units
from edgecompress.values import Json, OnnxModel
from edgecompress.writing import replace_file

What = Literal["both", "weight", "activation", "int8", "int4"]
"""What is rounded: of a linear layer its weight, its input or both; of a table its bits."""
Kind = Literal["linear", "table", "convolution"]
CULPRIT = 10.0
"""A culprit costs at least so many times the median of its kind…"""
LEAST_SHARE = 0.05
"""… and at least this share of what all parts of its kind cost together."""


@dataclass(frozen=True, slots=True)
class Item:
    """One part of a model, rounded alone.

    Attributes
    ----------
    layer : str
        The unit's name: that of its (first) node.
    what : str
    tensor : str
        The weight or activation that is rounded; of ``both`` the weight.
    kind : {"linear", "table", "convolution"}
    shape : tuple of int
        Of the weight.
    input : str
        The tensors that the layer multiplies; empty for a table.
    cost : Cost
    saves_bytes : int
        How much smaller the file gets by it; 0 for an activation.
    saves_ms : float or None
        How much faster the whole model gets by it, where that was measured.
    """

    layer: str
    what: What
    tensor: str
    kind: Kind
    shape: tuple[int, ...]
    input: str
    cost: Cost
    saves_bytes: int
    saves_ms: float | None = None

    def to_json(self) -> Json:
        """Give it as a file keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> Item:
        """Read what `to_json` gave."""
        fields = {**document, "cost": Cost(**document["cost"])}
        return cls(**{**fields, "shape": tuple(document["shape"])})


def check_float(model: OnnxModel) -> None:
    """Refuse a model that is quantized already.

    Raises
    ------
    StageError
    """
    if is_quantized(model.path):
        raise StageError(
            f"{model.path.name} is quantized already: give the fp32 model that it was made from"
        )


def plan(units: Sequence[Unit], scheme: Scheme, parts: Collection[What]) -> list[tuple[Unit, What]]:
    """List what to measure, in the graph's order; inputs that layers share come once each."""
    found: list[tuple[Unit, What]] = []
    inputs: set[tuple[str, ...]] = set()
    for unit in units:
        whats: list[What] = ["int8", "int4"] if unit.is_table else ["both", "weight", "activation"]
        for what in whats:
            if what not in parts or (
                what == "int4" and not unit.takes_int4(scheme.embedding_block)
            ):
                continue
            if what == "activation":
                if unit.inputs in inputs:
                    continue
                inputs.add(unit.inputs)
            found.append((unit, what))
    return found


def measure(
    model: OnnxModel,
    samples: ComparedSamples,
    scheme: Scheme,
    folder: Path,
    *,
    parts: Collection[What] = ("both", "weight", "activation", "int8", "int4"),
    only: Sequence[str] = (),
    threads: int = 1,
    progress: Callable[[float, float, str], None] = lambda _done, _total, _what: None,
    ended: Callable[[], bool] = lambda: False,
) -> tuple[list[Item], Json]:
    """Measure what rounding each part alone costs.

    Parameters
    ----------
    model : OnnxModel
        In fp32.
    samples : ComparedSamples
    scheme : Scheme
        With ``scheme.ranges`` inputs have these ranges, else those that they have at run time.
    folder : Path
        What is measured is saved here, and taken from here; the caller keeps one per question.
    parts : collection of str
    only : sequence of str
        Names of layers or weights; all of them when left out.
    threads : int
    progress : callable
        Told (done, total, what).
    ended : callable
        Asked after each part whether to stop.

    Returns
    -------
    items : list of Item
        In the graph's order; fewer where it was told to stop.
    facts : dict
        ``metric`` and its fp32 value (``reference``), ``samples``.

    Raises
    ------
    StageError
        When the model is quantized already or has nothing to quantize, a name is unknown, or a
        sample does not fit.
    """
    check_float(model)
    switched = Switched(model, folder, scheme, threads)
    units = chosen_units(switched.units, only)
    wanted = plan(units, scheme, parts)
    if not wanted:
        raise StageError(
            f"{model.path.name} has no linear layer and no table whose rounding could be measured "
            "(convolutions are left out, and so are recurrent layers)"
        )
    judge = OutputJudge(samples, lambda feed: switched.run(feed, {}))
    shared = _sharing(switched.units)
    items: list[Item] = []
    for done, (unit, what) in enumerate(wanted):
        progress(done, len(wanted), f"{unit.name}, {what}")
        saved = folder / f"{done:05d}-{what}.json"
        item = _read(saved, unit, what)
        if item is None:
            if ended():
                break
            of = shared[unit.inputs] if what == "activation" else [unit]
            item = _measured(switched, judge, of, what)
            replace_file(saved, json.dumps(item.to_json()))
        items.append(item)
    facts = {"metric": samples.metric, "reference": judge.reference, "samples": len(samples.feeds)}
    return items, facts


def _sharing(units: Sequence[Unit]) -> dict[tuple[str, ...], list[Unit]]:
    found: dict[tuple[str, ...], list[Unit]] = {}
    for unit in units:
        if unit.inputs:
            found.setdefault(unit.inputs, []).append(unit)
    return found


def _measured(switched: Switched, judge: OutputJudge, units: Sequence[Unit], what: What) -> Item:
    unit = units[0]
    part: Part = "both" if what in ("int8", "int4") else what  # type: ignore[assignment]
    extra = switched.feed_of(units, part, 4 if what == "int4" else 8)
    cost = judge.cost(lambda feed: switched.run(feed, extra))
    bytes_now, form = unit.bytes_in("fp32"), "int4" if what == "int4" else "int8"
    block = switched.scheme.embedding_block
    saves = 0 if what == "activation" else bytes_now - unit.bytes_in(form, block)  # type: ignore[arg-type]
    inputs = " ".join(unit.inputs)
    tensor = inputs if what == "activation" else unit.weights[0]
    kind: Kind = "table" if unit.is_table else "linear"
    if any(layer.kind == "conv" for layer in unit.layers):
        kind = "convolution"
    return Item(unit.name, what, tensor, kind, unit.shape, inputs, cost, saves)


def _read(file: Path, unit: Unit, what: What) -> Item | None:
    try:
        found = Item.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not measured yet, or cut off by a kill of an older process
    return found if (found.layer, found.what) == (unit.name, what) else None


def whole_layers(items: Sequence[Item]) -> list[Item]:
    """Give the items that stand for whole layers: ``both`` of linear ones, ``int8`` of tables."""
    return [item for item in items if item.what in ("both", "int8")]


def culprits(items: Sequence[Item]) -> list[Item]:
    """Give the layers that cost far more than others do, the worst first.

    A culprit costs `CULPRIT` times the median layer and `LEAST_SHARE` of what all cost together.
    """
    whole = whole_layers(items)
    if len(whole) < 2:
        return []
    middle = median(item.cost.error for item in whole)
    least = max(CULPRIT * middle, LEAST_SHARE * sum(item.cost.error for item in whole))
    found = [item for item in whole if item.cost.error > 0 and item.cost.error >= least]
    return sorted(found, key=lambda item: -item.cost.error)


def blame(item: Item, items: Sequence[Item]) -> str:
    """Say which of a layer's tensors costs most: its ``weight``, its ``input``; empty: unknown."""
    weight = next((i for i in items if i.layer == item.layer and i.what == "weight"), None)
    alike = (i for i in items if i.what == "activation" and i.input == item.input)
    activation = next(alike, None)
    if weight is None or activation is None:
        return ""
    return "weight" if weight.cost.error >= activation.cost.error else "input"
