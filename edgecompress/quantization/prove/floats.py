"""Why nodes of a quantized graph still compute, or look up, in floating point."""

from __future__ import annotations

from collections.abc import Sequence

from edgecompress.quantization.prove.proof import coverage
from edgecompress.values import Candidate, Feed, OnnxModel


def float_reasons(candidate: Candidate, feeds: Sequence[Feed]) -> dict[str, str]:
    """Say by a node's name, as ONNX Runtime executes it, why its weight is no integer.

    What the candidate's steps recorded comes first: they know what was excluded and why. What
    the graph itself shows comes second.

    Parameters
    ----------
    candidate : Candidate
        An ONNX model; its steps may be empty.
    feeds : sequence of dict
        Inputs to run it on.

    Raises
    ------
    StageError
        When ONNX Runtime cannot load or run the model here.
    """
    if not isinstance(candidate.model, OnnxModel):
        return {}
    recorded: dict[str, str] = {}
    for step in candidate.steps:
        recorded |= step.decisions.get("exceptions", {})
    return {
        part.name: recorded.get(part.name) or recorded.get(part.weight) or part.reason
        for part in coverage(candidate.model, feeds).parts
        if part.reason
    }
