"""Write the model that an assignment of forms describes.

Each form is planned by itself, with the layers of all others excluded; the plans are joined, and
the graph is written in one walk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.graphs.layers import find_layers
from edgecompress.quantization.plan.planning import plan_of
from edgecompress.quantization.plan.quant_plan import QuantPlan, Ranges
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proof import Coverage
from edgecompress.quantization.prove.proven import write_proven
from edgecompress.quantization.search.units import LINEAR, Assignment, Form, Unit, find_units
from edgecompress.quantization.write.writer import write_plan
from edgecompress.values import OnnxModel


def write_mixed(
    source: OnnxModel, assignment: Assignment, base: Scheme, ranges: Ranges, target: Path
) -> tuple[OnnxModel, Coverage | None]:
    """Quantize `source` as `assignment` says and write it to `target`.

    Parameters
    ----------
    source : OnnxModel
    assignment : Assignment
        Of the units that `find_units` gives.
    base : Scheme
        Types and blocks; what is quantized, and its ranges, are set here.
    ranges : mapping of str to (float, float)
        Of the inputs of all static layers.
    target : Path

    Returns
    -------
    model : OnnxModel
        With the session settings of `source`.
    coverage : Coverage or None
        What runs as int8, where static layers made it necessary to look.

    Raises
    ------
    StageError
        When the graph's opset is too old, or a range is missing.
    """
    model = OnnxModel(target, source.session)

    def planned(stored: StoredModel, missed: frozenset[str]) -> QuantPlan:
        return mixed_plan(stored, assignment, replace(base, as_integers=missed), ranges)

    if assignment.having("static"):
        proven = write_proven(lambda: read_model(source.path), planned, model)
        return model, proven.coverage
    stored = read_model(source.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_model(write_plan(stored, planned(stored, frozenset())), target)
    return model, None


def mixed_plan(
    stored: StoredModel, assignment: Assignment, base: Scheme, ranges: Ranges
) -> QuantPlan:
    """Give the plan of a graph in which every unit has the form that `assignment` says."""
    units = find_units(stored)
    every = {node for unit in units for node in unit.nodes}
    every |= {layer.node for layer in find_layers(stored) if layer.kind == "lstm"}  # no unit
    forms: dict[str, Form] = {}
    for unit in units:
        form = assignment.forms.get(unit.name, "fp32")
        for layer in unit.layers:  # a tied table is int8 like the layer that shares it
            shares = layer.kind not in LINEAR and form in ("dynamic", "static")
            forms[layer.node] = "int8" if shares else form
    tied = _tied_to_static(units, assignment)
    statics = {node for node, form in forms.items() if form == "static"} | tied
    fours = {node for node, form in forms.items() if form == "int4"}
    plain = {n for n, form in forms.items() if form in ("dynamic", "int8")} - tied
    plan = QuantPlan({})
    for nodes, scheme in (
        (plain, replace(base, ranges=None)),
        (statics, replace(base, ranges=ranges)),
        (fours, replace(base, linears="off", embedding_bits=4, ranges=None)),
    ):
        if nodes:
            alone = replace(scheme, exclude=frozenset(every - nodes))
            plan = plan.joined(plan_of(stored, alone))
    return plan


def _tied_to_static(units: Iterable[Unit], assignment: Assignment) -> set[str]:
    """Tables that share a weight with a static layer: one rewrite names both without a clash."""
    return {
        layer.node
        for unit in units
        if assignment.forms.get(unit.name) == "static"
        for layer in unit.layers
        if layer.kind not in LINEAR
    }


def starting_point(
    units: Iterable[Unit], form: Form, *, tables: bool = True, exclude: Collection[str] = ()
) -> Assignment:
    """Give every linear layer `form` and every table int8; what is excluded stays fp32."""
    forms: dict[str, Form] = {}
    for unit in units:
        kept: Form = "int8" if tables else "fp32"
        forms[unit.name] = "fp32" if named(unit, exclude) else kept if unit.is_table else form
    return Assignment(forms)


def named(unit: Unit, names: Collection[str]) -> bool:
    """Tell whether a node or a weight of `unit` is among `names`."""
    return not set(names).isdisjoint((*unit.nodes, *unit.weights))
