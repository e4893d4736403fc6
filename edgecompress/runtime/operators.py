"""Which operators an ONNX file uses, read without ``onnx``: what batches do to its answers.

A graph that quantizes activations while it runs takes their range from the whole tensor, so an
answer depends on what else is in the batch. Such a model is asked one row at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgecompress.onnx_files import MappedModel, length_fields, mapped

# Message -> field number -> message of that field; numbers from onnx/onnx.proto.
_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
_OP_TYPE = 4  # of a node
_DEPTH = 100  # protobuf's own limit on nested messages

DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that take a scale from all the values that they are given, of every row at once.

Source: the operator documentation of ONNX and of ONNX Runtime's ``com.microsoft`` domain. Those
that quantize row by row, such as ``MatMulNBits`` with its accuracy level 4, do not belong here.
"""


def operator_types(model: Path) -> frozenset[str]:
    """Give the names of all operators of an ONNX file, those of subgraphs and functions included.

    Parameters
    ----------
    model : Path
        An ONNX file. It is mapped, not read: weights inside it cost no memory.

    Raises
    ------
    DataError
        When the file is empty or no protobuf message.
    """
    with mapped(model) as view:
        return frozenset(_names(view, 0, len(view), "model", 0))


def batches_change_answers(model: Path) -> bool:
    """Whether an answer of this model depends on what else is in its batch; see `DYNAMIC`.

    Raises
    ------
    DataError
        When the file is no ONNX model.
    """
    return bool(operator_types(model) & DYNAMIC)


def _names(data: MappedModel, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError("messages nested too deeply")
    fields = _FIELDS[message]
    for number, first, last in length_fields(data, start, end):
        if message == "node" and number == _OP_TYPE:
            yield data[first:last].decode("utf-8")
        elif number in fields:
            yield from _names(data, first, last, fields[number], depth + 1)
