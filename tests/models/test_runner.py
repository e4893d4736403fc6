"""A runner asks any model alike: an ONNX session and a PyTorch module, one row or many."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgecompress.errors import StageError
from edgecompress.models.runner import open_onnx, run_rows
from edgecompress.models.torch_runner import TorchRunner
from edgecompress.values import OnnxModel, SessionSettings, TensorSpec

TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)
LENGTHS = (3, 1, 5, 2, 5)


class Tagger(nn.Module):
    """A value pair for each token, and for each row how many tokens count."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.from_numpy(TABLE.copy()))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict:
        return {"logits": self.table[input_ids], "count": attention_mask.sum(1, keepdim=True)}


@pytest.fixture
def tagger(tmp_path: Path) -> OnnxModel:
    """The same as a graph, whose ids are int32."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["count"], keepdims=1),
    ]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "length"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("count", TensorProto.INT64, None),
    ]
    weights = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "tagger.onnx")
    return OnnxModel(tmp_path / "tagger.onnx")


def feed(rows: list[int]) -> dict[str, np.ndarray]:
    longest = max(LENGTHS[row] for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for place, row in enumerate(rows):
        ids[place, : LENGTHS[row]] = np.arange(LENGTHS[row]) + row
        mask[place, : LENGTHS[row]] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": ids}


@pytest.mark.parametrize("batches", [[[0], [1], [2], [3], [4]], [[4, 0, 3], [2, 1]]])
def test_session_and_module_answer_each_row_alike(
    tagger: OnnxModel, batches: list[list[int]]
) -> None:
    told: list[int] = []
    for runner in (open_onnx(tagger), TorchRunner(Tagger().eval())):
        found = dict(run_rows(runner, feed, batches, told.append))
        assert sorted(found) == list(range(len(LENGTHS)))
        for row, outputs in found.items():
            length = LENGTHS[row]
            assert np.array_equal(outputs["logits"][:length], TABLE[np.arange(length) + row])
            assert outputs["count"].tolist() == [length]
    assert told == 2 * [sum(map(len, batches[: n + 1])) for n in range(len(batches))]


def test_inputs_are_described_and_outputs_chosen(tagger: OnnxModel) -> None:
    runner = open_onnx(tagger, outputs=["count"])
    shape = ("batch", "length")
    assert runner.specs == (
        TensorSpec("input_ids", "int32", shape),
        TensorSpec("attention_mask", "int64", shape),
    )
    assert set(runner(feed([0]))) == {"count"}
    names = [spec.name for spec in TorchRunner(Tagger()).specs]
    assert names == ["input_ids", "attention_mask"]


def test_what_cannot_run_is_one_sentence(tagger: OnnxModel) -> None:
    runner = open_onnx(tagger)
    bad = feed([0]) | {"input_ids": np.array([[99]])}
    for given in (bad, {"input_ids": np.array([[1]])}):
        with pytest.raises(StageError, match=r"tagger\.onnx: ONNX Runtime cannot run it") as told:
            runner(given)
        assert "\n" not in str(told.value)


def test_a_session_is_opened_as_the_model_wants(tagger: OnnxModel) -> None:
    for key in ("session.load_model_format", "session." + 2000 * "x"):
        wants = SessionSettings(config_entries=((key, "ORT"),))
        for packed in (True, False):
            with pytest.raises(StageError, match="cannot load this file"):
                open_onnx(OnnxModel(tagger.path, wants), packed=packed)
