"""Which operators of a model took the time, by ONNX Runtime's profile, and what stayed fp32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from edgecompress.disturbance import Loop, Rules, disturbed
from edgecompress.models.graph import signature
from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.base import Feeds, Mode, Readings
from edgecompress.targets.probe import Probe
from edgecompress.values import Json, Measurement, Model, OnnxModel

LAYERS = 10
"""Slowest nodes of each operator that are kept by name."""
FLOATS = frozenset({"float", "double", "float16", "bfloat16"})
WEIGHTED = frozenset(
    {
        *("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "Conv", "FusedConv"),
        *("FusedMatMulActivation", "ConvTranspose", "Attention", "PackedAttention"),
        *("MultiHeadAttention", "GroupQueryAttention", "LSTM", "GRU", "RNN", "Gather"),
        *("EmbedLayerNormalization",),
    }
)
"""Operators that multiply with, or look up in, weights: those a quantizer is after."""
COMPUTED = frozenset({"MatMul", "FusedMatMul", "TransposeMatMul", "MultiHeadAttention"})
QUANTIZED = ("Quantize", "Integer", "QLinear", "QGemm", "QAttention", "NBits", "Quantized")
Reasons = Callable[[list[Feed]], Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Operators(Probe):
    """Measure ``operator_time`` of each type of operator (slices ``operator:MatMul``).

    In ms per inference, the slowest first. The profiler itself slows each node a little, so shares
    say more than sums. ``conditions`` hold ``share``, ``calls`` (per inference), ``nodes``,
    ``dtypes`` of the inputs, the slowest nodes as ``layers`` and, in a graph that was quantized,
    the nodes that stayed in floating point with the reason as ``float``.

    Parameters
    ----------
    reasons : callable, optional
        Given the feeds, says by a node's name why its weight is a float.
    """

    reasons: Reasons | None = None

    mode: ClassVar[Mode] = "operators"
    accepts: ClassVar[tuple[type[Model], ...]] = (OnnxModel,)

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Sum the nodes by their operators."""
        found = readings.operators[0]
        nodes, runs = found["nodes"], max(int(found["inferences"]), 1)
        known: Mapping[str, str] = {}
        if self.reasons is not None and _is_quantized(nodes):
            known = self.reasons(_rows(self.candidate.model, feeds))
        kept = float_nodes(nodes, known) if _is_quantized(nodes) else {}
        invalid = _invalid(readings.loop, self.rules)
        total = sum(node["ns"] for node in nodes) or 1
        groups: dict[str, list[Json]] = {}
        for node in nodes:
            groups.setdefault(node["op"], []).append(node)
        measured = []
        for op, members in groups.items():
            ns = sum(node["ns"] for node in members)
            conditions: Json = {
                "share": ns / total,
                "calls": sum(node["calls"] for node in members) / runs,
                "nodes": len(members),
                "provider": members[0]["provider"],
                "dtypes": sorted({dtype for node in members for dtype in node["inputs"]}),
                "threads": self.clock.threads,
                "source": source,
                "layers": [_layer(node, total, runs) for node in members[:LAYERS]],
            }
            mine = {node["name"]: kept[node["name"]] for node in members if node["name"] in kept}
            if mine:
                conditions["float"] = mine
            measured.append(
                Measurement(
                    "operator_time",
                    ns / runs / 1e6,
                    "ms",
                    self.target.name,
                    slice=f"operator:{op}",
                    samples=runs,
                    invalid=invalid,
                    conditions=conditions,
                )
            )
        return tuple(sorted(measured, key=lambda each: -each.value))


def _layer(node: Json, total: float, runs: int) -> Json:
    return {
        "name": node["name"],
        "ms": node["ns"] / runs / 1e6,
        "share": node["ns"] / total,
        "inputs": node["inputs"],
    }


def _rows(model: Model, feeds: Feeds) -> list[Feed]:
    """Give the smallest and the largest row in the graph's own dtypes."""
    specs = signature(model) if isinstance(model, OnnxModel) else ()
    dtypes = {spec.name: spec.dtype for spec in specs}
    rows = [
        {
            name: array.astype(dtypes[name], copy=False)
            for name, array in zip(feeds.arrays, arrays, strict=True)
            if name in dtypes
        }
        for arrays in zip(*feeds.arrays.values(), strict=True)
    ]
    rows.sort(key=lambda row: sum(array.size for array in row.values()))
    return [rows[0], rows[-1]] if rows else []


def _is_quantized(nodes: Sequence[Json]) -> bool:
    return any(part in node["op"] for node in nodes for part in QUANTIZED)


def float_nodes(nodes: Sequence[Json], known: Mapping[str, str]) -> dict[str, str]:
    """Say for each node that could have been quantized, and runs on floats, why it does.

    Parameters
    ----------
    nodes : sequence of dict
        As the agent's mode ``operators`` gives them.
    known : mapping
        Reasons by the name of a node, where they are known.
    """
    found: dict[str, str] = {}
    for node in nodes:
        if node["op"] not in WEIGHTED or not node["inputs"] or not FLOATS & {node["inputs"][0]}:
            continue
        name = node["name"]
        tables = [why for part, why in known.items() if part.startswith(f"{name}/")]
        reason = known.get(name) or next(iter(tables), None)
        if reason is None and node["op"] in COMPUTED:
            reason = "it has no constant weight: all that it multiplies is computed"
        if reason is None and node["op"] == "Gather":
            continue  # no table of weights: it takes parts of what was computed
        found[name] = reason or f"the quantizer left this {node['op']} as it was"
    return found


def _invalid(loop: Loop | None, rules: Rules) -> str | None:
    """Shares bear much; what changes all of the times alike does not move them."""
    if loop is None:
        return None
    brief = replace(loop, duration_ms=rules.min_duration_ms)  # as many passes as it takes
    share = rules.min_cpu_share
    return disturbed(brief, cpu_share=share, drift=0.0, max_drift=1.0, rules=rules, ratio=False)
