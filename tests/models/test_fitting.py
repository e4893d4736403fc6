"""Made-up inputs on which graphs of many kinds run, whatever their exporter wrote as sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strange_signatures import SIGNATURES, signature_graph

from edgecompress.models.sizes import resolved
from edgecompress.models.synthetic import made_feeds, synthetic_items
from edgecompress.values import OnnxModel, TensorSpec


@pytest.mark.parametrize("kind", SIGNATURES)
@pytest.mark.parametrize("seed", range(3))
def test_a_graph_runs_on_what_is_made_up(kind: str, seed: int, tmp_path: Path) -> None:
    import onnxruntime as ort

    model = OnnxModel(signature_graph(kind, tmp_path / "m.onnx", seed))
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    for feed in made_feeds(model, [(1, 5), (3, 9)]):
        assert all(np.size(found) for found in session.run(None, feed))
    for item in synthetic_items([model], {}, {}, count=2)[0]:
        assert all(np.size(found) for found in session.run(None, item))


@pytest.mark.parametrize(
    ("symbol", "size"),
    [
        ("floor(height/32)", 7),
        ("floor(height/32 - 1/2) + 1", 7),
        ("ceil(height / 100)", 3),
        ("-(-height // 100)", 3),
        ("Max(1, height - 300)", 1),
        ("2*height", 448),
        ("(height + 1) % 4", 1),
        ("height / 0", 0),
        ("__import__('os').getpid()", 32),
    ],
)
def test_a_size_that_is_worked_out(symbol: str, size: int) -> None:
    specs = [TensorSpec("x", "float32", (1, "height")), TensorSpec("y", "float32", (1, symbol))]
    assert resolved([specs], {})[0]["y"] == (1, size)
