"""GELU in a graph, with its factors in the order that ONNX Runtime recognises.

PyTorch's exporter writes x · (½ · (1 + erf(x/√2))), also with tanh. ONNX Runtime's optimizer of
Python scripts fuses it; the one that runs when a file is loaded wants ½ · (x · (1 + erf(x/√2))),
and (½ · x) · (1 + tanh(…)). Halving is exact, so that the results are the same numbers.
"""

from __future__ import annotations

from onnx import NodeProto

from edgecompress.quantization.graphs.wiring import Wiring

HALF = 0.5


def order_gelu(last: NodeProto, wiring: Wiring) -> bool:
    """Reorder the factors of a GELU whose last product this is; tell whether that was needed."""
    for x, product in (tuple(last.input), tuple(last.input)[::-1]):
        inner = wiring.made_by(product, "Mul")
        if inner is None or x == product or not wiring.only_reader(product, "Mul"):
            continue
        for half, share in (tuple(inner.input), tuple(inner.input)[::-1]):
            if wiring.scalar(half) != HALF or (curve := _curve(share, wiring)) is None:
                continue
            first, then = (share, half) if curve == "Erf" else (half, share)
            inner.input[:] = [x, first]
            last.input[:] = [product, then]
            return True
    return False


def _curve(share: str, wiring: Wiring) -> str | None:
    """Give the function of 1 + erf(…) or 1 + tanh(…), if a tensor is made so."""
    total = wiring.made_by(share, "Add")
    for one, name in (tuple(total.input), tuple(total.input)[::-1]) if total else ():
        if wiring.scalar(one) == 1 and (curve := wiring.made_by(name, "Erf", "Tanh")):
            return str(curve.op_type)
    return None
