"""The page of what quantizing each layer costs: names of parts, bounds, hostile names."""

from __future__ import annotations

from typing import Any

from hostile_results import HOSTILE

from edgecompress.report.html import render_html
from edgecompress.report.sensitivity import sensitivity_page


def item(layer: str, what: str, kind: str, error: float) -> dict[str, Any]:
    return {
        "layer": layer, "what": what, "tensor": f"{layer}.weight", "kind": kind,
        "shape": (64, 3, 7, 7), "input": "x", "saves_bytes": 1_000, "saves_ms": None,
        "cost": {"error": error, "kl": None, "drop": 0.01},
    }  # fmt: skip


def document(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": "m.onnx", "about": "about", "says": "says", "metric": "f1", "items": items,
        "culprits": [items[0]["layer"]],
    }  # fmt: skip


def rendered(document: dict[str, Any]) -> str:
    return render_html(sensitivity_page(document))


def test_a_convolution_is_called_one_and_a_table_an_embedding_table() -> None:
    page = rendered(document([item("conv", "int8", "convolution", 0.1)]))
    assert "convolution’s weight, 8 bits" in page
    assert "embedding table" not in page
    page = rendered(document([item("words", "int8", "table", 0.0)]))
    assert "embedding table, 8 bits" in page
    assert "convolution" not in page


def test_a_large_model_of_hostile_names_is_a_small_page() -> None:
    items = [item(f"/layer.{n}/{HOSTILE}", "both", "linear", 10.0**-n) for n in range(150)]
    page = rendered(document(items))
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert len(page.encode()) < 500_000
    tensors = [
        {"tensor": HOSTILE, "op": HOSTILE, "mean_error": 0.1, "largest_error": 1.0, "snr_db": dB}
        for dB in (200.0, 40.0, -3.0)
    ]
    compared = {"model": HOSTILE, "other": HOSTILE, "about": HOSTILE, "says": HOSTILE}
    page = rendered({**compared, "tensors": tensors})
    assert HOSTILE not in page
    assert page.count('class="mark"') == 3
    assert "exact" in page
