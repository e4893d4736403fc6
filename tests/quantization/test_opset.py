"""Operator sets that are too old, and graphs that name none of the standard ones."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper
from strange_graphs import strange_graph

from edgecompress.quantization.graphs.opset import UPGRADED_OPSET, opset_of, with_opset
from edgecompress.values import OnnxModel


@pytest.mark.parametrize("seed", range(4))
def test_an_old_set_is_upgraded(seed: int, tmp_path: Path) -> None:
    model = OnnxModel(strange_graph("old", tmp_path / "m.onnx", seed))
    _, stored, decided = with_opset(model, 13, tmp_path / "new")
    assert opset_of(stored) == UPGRADED_OPSET == decided["opset"]["to"]


def test_operators_of_another_domain_alone_need_no_set(tmp_path: Path) -> None:
    file = strange_graph("trees", tmp_path / "m.onnx", 0)
    model = onnx.load(file)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, file)
    source, _, decided = with_opset(OnnxModel(file), 13, tmp_path / "new")
    assert source.path == file and not decided
