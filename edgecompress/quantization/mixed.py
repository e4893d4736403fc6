"""Write the model that an assignment of forms describes.

`rewrite` gives all layers one form, so the graph is rewritten once for each form, and what has
another one is excluded meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.layers import find_layers
from edgecompress.quantization.proof import Coverage, coverage
from edgecompress.quantization.rewrite import missed_weights, rewrite
from edgecompress.quantization.scheme import Scheme
from edgecompress.quantization.units import LINEAR, Assignment, Form, Unit, find_units
from edgecompress.values import OnnxModel

Ranges = Mapping[str, tuple[float, float]]
DYNAMIC_SUFFIX = "_dynamic"


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
    target.parent.mkdir(parents=True, exist_ok=True)
    write_model(_mixed(source, assignment, base, ranges, frozenset()), target)
    if not assignment.having("static"):
        return model, None
    found = coverage(model)
    missed = missed_weights(found)
    if missed:
        write_model(_mixed(source, assignment, base, ranges, missed), target)
        found = coverage(model)
    return model, found


def _mixed(
    source: OnnxModel, assignment: Assignment, base: Scheme, ranges: Ranges, missed: frozenset[str]
) -> StoredModel:
    stored = read_model(source.path)
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
    if plain:
        stored, _ = rewrite(stored, replace(base, ranges=None, exclude=frozenset(every - plain)))
        if statics:
            _rename(stored)
    if statics:
        exclude = frozenset(every - statics)
        scheme = replace(base, ranges=ranges, exclude=exclude, as_integers=missed)
        stored, _ = rewrite(stored, scheme)
    if fours:
        exclude = frozenset(every - fours)
        scheme = replace(base, linears="off", embedding_bits=4, exclude=exclude, ranges=None)
        stored, _ = rewrite(stored, scheme)
    return stored


def _tied_to_static(units: Iterable[Unit], assignment: Assignment) -> set[str]:
    """Tables that share a weight with a static layer: one rewrite names both without a clash."""
    return {
        layer.node
        for unit in units
        if assignment.forms.get(unit.name) == "static"
        for layer in unit.layers
        if layer.kind not in LINEAR
    }


def _rename(stored: StoredModel) -> None:
    """Rename what quantizes inputs at run time: a static layer may quantize the same tensor."""
    names = {
        name: f"{name}{DYNAMIC_SUFFIX}"
        for node in stored.proto.graph.node
        if node.op_type == "DynamicQuantizeLinear"
        for name in node.output
    }
    for node in stored.proto.graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name in names:
                    field[index] = names[name]
        if node.op_type == "DynamicQuantizeLinear":
            node.name = f"{node.name}{DYNAMIC_SUFFIX}"


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
