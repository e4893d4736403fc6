"""Bring a graph to the opset that quantization needs, where ONNX can."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import version_converter

from edgecompress.errors import StageError
from edgecompress.models.storage import MOST_INLINE_BYTES, StoredModel, read_model
from edgecompress.values import Json, OnnxModel

UPGRADED_OPSET = 17
"""What an older graph is brought to: ONNX Runtime's own quantizer is tested most on it."""
IR_VERSION = 8
"""The oldest file format that this opset is written in."""

LEAST_IR_OF_CONSTANTS = 4
"""Before it every initializer was listed as an input, too; since then that is one to be replaced,
and ONNX Runtime fuses none of them into an integer kernel."""


def opset_of(model: StoredModel) -> int:
    """Version of the standard operators that a graph uses; 0 where it does not say."""
    found = (o.version for o in model.proto.opset_import if o.domain in {"", "ai.onnx"})
    return next(found, 0)


def with_opset(source: OnnxModel, least: int, folder: Path) -> tuple[OnnxModel, StoredModel, Json]:
    """Read a model, upgraded to opset 17 where it is older than `least`.

    Source: `onnx.version_converter.convert_version`. The upgraded file lies in `folder`.

    Returns
    -------
    source : OnnxModel
        The file to read from: the one given, or the upgraded one.
    stored : StoredModel
    decided : dict
        ``opset``: from what to what it was upgraded; empty where it was new enough.

    Raises
    ------
    StageError
        When it cannot be upgraded, or is larger than the converter can take (2 GB).
    """
    stored = read_model(source.path)
    opset = opset_of(stored)
    plain = any(node.domain in {"", "ai.onnx"} for node in stored.proto.graph.node)
    if opset >= least or not plain:  # of other domains' operators nothing is quantized
        return source, stored, {}
    told = f"quantization needs opset {least} or newer, and this model has {opset}"
    if sum(place.length for place in stored.places.values()) > MOST_INLINE_BYTES:
        raise StageError(f"{told}; above 2 GB it cannot be upgraded: export it again")
    try:
        upgraded = version_converter.convert_version(onnx.load(source.path), UPGRADED_OPSET)
    except Exception as error:  # noqa: BLE001 - the converter raises the bare class, and others
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StageError(f"{told}; ONNX cannot upgrade it ({first}): export it again") from None
    if upgraded.ir_version < LEAST_IR_OF_CONSTANTS:
        _fix_initializers(upgraded.graph)
    upgraded.ir_version = max(upgraded.ir_version, IR_VERSION)
    folder.mkdir(parents=True, exist_ok=True)
    made = OnnxModel(folder / source.path.name, source.session)
    onnx.save(upgraded, made.path)
    return made, read_model(made.path), {"opset": {"from": opset, "to": UPGRADED_OPSET}}


def _fix_initializers(graph: onnx.GraphProto) -> None:
    """Take the initializers out of a graph's inputs."""
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
