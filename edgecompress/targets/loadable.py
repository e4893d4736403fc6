"""What keeps ONNX Runtime from loading a model, found before any process is started."""

from __future__ import annotations

import functools
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.models.graph import GraphFacts, Operator, graph_facts
from edgecompress.values import OnnxModel

DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Domains of ONNX Runtime's own operators; those of other domains are custom."""


def check_loadable(model: OnnxModel) -> None:
    """Check what can be checked without loading the model.

    Raises
    ------
    DataError
        When an operator is unknown to ONNX Runtime, or external data is missing or cut off.
    """
    facts = graph_facts(model.path)
    unknown = [found for found in facts.operators if not _known(found)]
    if unknown:
        raise DataError(_refusal(unknown), file=model.path)
    _check_external(model.path, facts)


def _known(found: Operator) -> bool:
    schemas = _schemas()
    if schemas is None:
        return found.domain in DOMAINS
    return (found.domain, found.name) in schemas


@functools.cache
def _schemas() -> frozenset[tuple[str, str]] | None:
    """Domain and name of every operator that this ONNX Runtime knows; None where it cannot say."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    if not hasattr(state, "get_all_operator_schema"):  # a build without it, as for phones
        return None
    found = {(schema.domain, schema.name) for schema in state.get_all_operator_schema()}
    return frozenset(found)


def _refusal(unknown: list[Operator]) -> str:
    import onnxruntime

    first, others = unknown[0], unknown[1:]
    where = f" (node {first.node!r})" if first.node else ""
    also = f", as {'is' if len(others) == 1 else 'are'} {', '.join(map(str, others[:3]))}"
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    advice = "replace it by standard operators"
    if first.domain not in DOMAINS:
        advice += ", or give it as a local function of the model"
    return (
        f"the operator {first}{where} is unknown to ONNX Runtime {onnxruntime.__version__}"
        f"{also + more if others else ''}; {advice}"
    )


def _check_external(path: Path, facts: GraphFacts) -> None:
    for name, least in facts.external.items():
        file = path.parent / name
        if not file.is_file():
            raise DataError("the model's external data is missing; put it there", file=file)
        size = file.stat().st_size
        if size < least:
            raise DataError(
                f"the model's external data is cut off: {size} bytes of {least}", file=file
            )
