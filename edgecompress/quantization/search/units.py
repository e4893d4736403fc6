"""The smallest parts of a graph that can be quantized or left alone, and one choice for each.

A unit is a linear layer or a table; nodes that share a weight are one unit, because leaving one of
them alone would store the weight twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import fitting_block
from edgecompress.quantization.graphs.constants import lift_constants
from edgecompress.quantization.graphs.layers import Layer, find_layers, name_nodes
from edgecompress.values import Json
from edgecompress.words import meant

Form = Literal["dynamic", "static", "int8", "int4", "fp32"]
"""Of a linear layer ``dynamic``, ``static`` (how its input gets its int8) or ``fp32``; of a table
``int8``, ``int4`` or ``fp32``."""
LINEAR = frozenset({"matmul", "gemm", "attention"})


@dataclass(frozen=True, slots=True)
class Unit:
    """A linear layer or a table, with all nodes that share its weight.

    Attributes
    ----------
    name : str
        The first node's.
    layers : tuple of Layer
        In the graph's order.
    shape : tuple of int
        Of the first weight.
    values : int
        Numbers in all its weights.
    """

    name: str
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    values: int

    @property
    def is_table(self) -> bool:
        """Whether all its nodes look rows up."""
        return all(layer.kind not in LINEAR for layer in self.layers)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of its nodes."""
        return tuple(layer.node for layer in self.layers)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that its linear layers multiply."""
        return tuple(dict.fromkeys(x.data for x in self.layers if x.kind in LINEAR))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of its weights."""
        return tuple(dict.fromkeys(w for layer in self.layers for w in layer.weights if w))

    def takes_int4(self, block: int) -> bool:
        """Whether it is a table that can be stored in 4 bits."""
        plain = all(layer.kind == "table" for layer in self.layers)
        return plain and fitting_block(self.shape[-1], block) is not None

    def bytes_in(self, form: Form, block: int = 32) -> int:
        """Give about the bytes that its weights take in a form, scales included."""
        if form == "fp32":
            return 4 * self.values
        if form == "int4":
            found = fitting_block(self.shape[-1], block) or block
            return self.values // 2 + 2 * self.values // found
        return self.values


def find_units(model: StoredModel) -> tuple[Unit, ...]:
    """List what can be quantized, in the graph's order; the graph's nodes are given names."""
    name_nodes(model)
    lift_constants(model)
    sizes = {t.name: tuple(t.dims) for t in model.proto.graph.initializer}
    groups: list[list[Layer]] = []
    for layer in find_layers(model):
        if layer.refused or layer.kind in {"conv", "lstm"}:  # no choice of the stages for units
            continue
        mine = {name for name in layer.weights if name}
        near = [g for g in groups if mine & {name for other in g for name in other.weights if name}]
        joined = [one for group in near for one in group] + [layer]
        groups = [group for group in groups if group not in near]
        groups.append(joined)
    order = {node.name: index for index, node in enumerate(model.proto.graph.node)}
    units = []
    for group in sorted(groups, key=lambda layers: min(order[x.node] for x in layers)):
        weights = dict.fromkeys(name for layer in group for name in layer.weights if name)
        values = sum(math.prod(sizes[name]) for name in weights)
        units.append(Unit(group[0].node, tuple(group), sizes[next(iter(weights))], values))
    return tuple(units)


def chosen_units(units: tuple[Unit, ...], names: Iterable[str]) -> tuple[Unit, ...]:
    """Give the units that have a node or a weight of these names; all of them for no name.

    Raises
    ------
    StageError
        For a name that no unit has, with the nearest.
    """
    wanted = list(names)
    known = {name: unit for unit in units for name in (*unit.weights, *unit.nodes)}
    for name in wanted:
        if name not in known:
            raise StageError(f"the model has no layer or weight named {name}{meant(name, known)}")
    if not wanted:
        return units
    found = {known[name].name for name in wanted}
    return tuple(unit for unit in units if unit.name in found)


@dataclass(frozen=True)
class Assignment:
    """A form for every unit, by the unit's name."""

    forms: Mapping[str, Form]

    def put(self, names: Iterable[str], form: Form) -> Assignment:
        """Give a copy in which units have another form."""
        return replace(self, forms={**self.forms, **dict.fromkeys(names, form)})

    def having(self, *forms: Form) -> tuple[str, ...]:
        """Names of the units that have one of these forms."""
        return tuple(name for name, form in self.forms.items() if form in forms)

    def to_json(self) -> Json:
        """Give it as a step records it."""
        return dict(self.forms)
