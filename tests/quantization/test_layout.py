"""Hidden states with the sequence first: the same answers, three transposes less per attention."""

from dataclasses import replace

import onnx
import pytest
from helpers import labelled_texts, small_context, tagged_examples
from onnx import TensorProto, helper
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.inputs import largest_difference, parity_feeds
from edgecompress.models.session import input_specs, open_session
from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.fusion import SEQUENCE_FIRST, fuse, operator_counts
from edgecompress.quantization.graphs.layout import sequence_first
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.values import OnnxModel


def export(path, family, task, **options):
    return Export().apply(write_encoder(path, family, task, **options), small_context(path / "e"))


@pytest.mark.parametrize(
    ("family", "task", "examples", "fusions"),
    [
        ("Bert", "token-classification", tagged_examples(30), ()),
        ("Bert", "text-classification", labelled_texts(30), ("gelu", "skip_layer_norm")),
        ("XLMRoberta", "text-classification", labelled_texts(30), ()),
    ],
)
def test_answers_stay_alone_and_padded(tmp_path, family, task, examples, fusions):
    source = export(tmp_path, family, task, uneven=family == "Bert")
    made = OnnxModel(tmp_path / "made" / "model.onnx")
    fuse(source.model.path, {SEQUENCE_FIRST, *fusions}, "bert", made.path)
    first, second = open_session(source.model), open_session(made)
    for feed in parity_feeds(source, examples, input_specs(first), {}, 0):
        assert largest_difference(first.run(None, feed), second.run(None, feed), feed) < 1e-4
    before, after = operator_counts(source.model.path), operator_counts(made.path)
    assert before["MatMul"] - after["MatMul"] == 8 and after["Split"] == 2  # one product of three
    assert before["Transpose"] == 8 and "MultiHeadAttention" not in after
    assert after["FusedMatMul"] == 4 and after["Transpose"] <= 4


def test_its_linear_layers_become_int8(tmp_path):
    source = export(tmp_path, "Bert", "token-classification")
    path = tmp_path / "made" / "model.onnx"
    fuse(source.model.path, {SEQUENCE_FIRST}, "bert", path)
    given = replace(source, model=OnnxModel(path))
    decisions = Dynamic().apply(given, small_context(tmp_path / "q")).steps[-1].decisions
    assert len(decisions["int8_linears"]) == 9 and not decisions["exceptions"]


def test_graphs_without_a_known_attention_are_refused(tmp_path):
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3]) for n in "xy"]
    relu = helper.make_node("Relu", ["x"], ["y"])
    for nodes, opset, words in (
        ([relu], 18, "no attention was found"),
        ([relu], 11, "from opset 13 on"),
        (
            [helper.make_node("MultiHeadAttention", ["x"] * 3, ["y"], "a", domain="com.microsoft")],
            18,
            "a has inputs that this layout does not know",
        ),
    ):
        graph = helper.make_graph(nodes, "g", value[:1], value[1:])
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
        with pytest.raises(StageError, match=words):
            sequence_first(read_model(tmp_path / "m.onnx"))
