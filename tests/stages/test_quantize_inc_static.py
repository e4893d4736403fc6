"""`quantize.inc_static` on an XLM-R classifier: what runs, what it answers, what it refuses."""

import numpy as np
import onnx
import pytest
from helpers import labelled_texts, small_context
from sentence_models import sentences, write_sentence_model
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.errors import DataError, StageError
from edgecompress.models.fitting import row_of
from edgecompress.models.session import input_specs, open_session
from edgecompress.models.sizes import SizePlan
from edgecompress.quantization.inc.result import parity
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.inc_static import IncStatic
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Example, file_digest

LINEARS = 2 * 6 + 2  # the head has two


@pytest.fixture(scope="module")
def classifier_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return write_encoder(folder, "XLMRoberta", "text-classification")


@pytest.fixture(scope="module")
def quantized(classifier_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inc_static")
    context = small_context(folder, train=labelled_texts(40), validation=labelled_texts(9, 2))
    result = check_stage(IncStatic(samples=24), classifier_model, context)
    assert context.said[0][:2] == (1, 25)
    return result


def test_every_linear_layer_and_embedding_runs_as_int8(quantized):
    found = coverage(quantized.model)
    assert len(found.int8_linears) == LINEARS
    assert len(found.int8_embeddings) == 3
    assert not found.fp32_linears
    assert not found.fp32_embeddings


def test_decisions_say_what_was_done(quantized):
    decisions = quantized.steps[-1].decisions
    assert len(decisions["int8_linears"]) == LINEARS
    assert decisions["exceptions"] == {}
    assert decisions["calibrated_on"] == 24
    assert decisions["parity"]["mean_difference"] < 0.005 * decisions["parity"]["range"]


def test_the_weights_are_int8_and_activations_have_fixed_ranges(quantized):
    graph = onnx.load(quantized.model.path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":  # of an activation: scale and zero point are known
            assert node.input[0] not in constants
            assert set(node.input[1:]) <= set(constants)
    matrices = [t for t in graph.initializer if len(t.dims) == 2 and min(t.dims) > 1]
    assert {t.data_type for t in matrices} == {onnx.TensorProto.INT8}


def test_it_takes_and_gives_what_the_stock_export_does(quantized, classifier_model, tmp_path):
    stock = Export().apply(classifier_model, small_context(tmp_path))
    ours, theirs = open_session(quantized.model), open_session(stock.model)
    assert input_specs(ours) == input_specs(theirs)
    assert ours.get_outputs()[0].name == theirs.get_outputs()[0].name == "logits"
    assert ours.get_outputs()[0].shape == theirs.get_outputs()[0].shape


def test_answers_stay_close_to_fp32(quantized, classifier_model):
    session = open_session(quantized.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(classifier_model, labelled_texts(20, seed=3), names)
    assert relative_error(expected, [session.run(None, feed)[0] for feed in feeds]) < 0.1


def test_the_same_data_and_seed_give_the_same_bytes(quantized, classifier_model, tmp_path):
    context = small_context(tmp_path, train=labelled_texts(40))
    again = IncStatic(samples=24).apply(classifier_model, context)
    assert file_digest(again.model.path) == file_digest(quantized.model.path)


def test_smoothed_with_4_bit_tables_and_a_layer_in_fp32(classifier_model, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nchoose: length\n", encoding="utf-8")
    context = small_context(tmp_path, train=labelled_texts(12))
    kept = "roberta.encoder.layer.1.output.dense"
    stage = IncStatic(
        calibration=str(file),
        samples=5,
        method="minmax",
        smooth=0.5,
        exclude=(kept,),
        embedding_bits=4,
    )
    result = stage.apply(classifier_model, context)
    decisions = result.steps[-1].decisions
    assert decisions["calibrated_on"] == 5
    assert len(decisions["int8_linears"]) == LINEARS - 1
    assert decisions["exceptions"] == {kept: "excluded by the recipe"}
    assert decisions["alphas"]["roberta.encoder.layer.0.attention.self.query"] == 0.5
    found = coverage(result.model)
    assert [part.dtype for part in found.int8_embeddings] == ["int4"] * 3
    assert len(found.int8_linears) == LINEARS - 1
    session = open_session(result.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(classifier_model, labelled_texts(20, seed=3), names)
    assert relative_error(expected, [session.run(None, feed)[0] for feed in feeds]) < 0.3


def test_without_training_examples_it_says_so(classifier_model, tmp_path):
    with pytest.raises(DataError, match="train"):
        IncStatic().apply(classifier_model, small_context(tmp_path))


def test_an_unknown_calibration_set_is_named(classifier_model, tmp_path):
    with pytest.raises(DataError, match="no calibration set is called 'nosuch'"):
        IncStatic(calibration="nosuch").apply(classifier_model, small_context(tmp_path))


def test_a_result_far_from_pytorch_is_an_error(quantized):
    session = open_session(quantized.model)
    feeds = [row_of(input_specs(session), {}, SizePlan(*shape)) for shape in ((1, 5), (3, 9))]
    logits = [session.run(None, feed)[0] for feed in feeds]
    assert parity(quantized.model, logits, feeds)["max_difference"] < 1e-3
    with pytest.raises(StageError, match="computes something else"):
        parity(quantized.model, [array[:, ::-1] for array in logits], feeds)
    with pytest.raises(StageError, match="not finite"):
        parity(quantized.model, [np.full_like(array, np.nan) for array in logits], feeds)


def test_heads_that_are_not_transformers_own_are_quantized(tmp_path):
    write_sentence_model(tmp_path / "st")
    model = import_teacher(str(tmp_path / "st"), "feature-extraction", None, tmp_path / "in")
    examples = tuple(Example({"text": text}) for text in sentences(30))
    context = small_context(tmp_path, train=examples, validation=examples[:5])
    found = check_stage(IncStatic(samples=16), model, context)
    assert len(coverage(found.model).int8_linears) == 2 * 6
    (vectors,) = (output.name for output in open_session(found.model).get_outputs())
    assert vectors == "sentence_embedding"
    parity = found.steps[-1].decisions["parity"]
    assert parity["mean_difference"] < 0.02 * parity["range"]
