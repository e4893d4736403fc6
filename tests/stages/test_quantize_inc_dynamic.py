"""`quantize.inc_dynamic` on a pruned BERT: what runs, what it answers, and what it prints."""

import subprocess
import sys

import onnx
import pytest
from helpers import small_context, tagged_examples
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.inc.library import quiet
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.inc_dynamic import IncDynamic
from edgecompress.values import OnnxModel, file_digest

LINEARS = 2 * 6 + 1
SCRIPT = """
import sys
from pathlib import Path
from helpers import small_context
from edgecompress.stages.quantize.inc_dynamic import IncDynamic
from edgecompress.values import Candidate
context = small_context(Path(sys.argv[2]))
IncDynamic().apply(Candidate.load(Path(sys.argv[1])), context)
"""


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruned")
    candidate = write_encoder(folder, "Bert", "token-classification", uneven=True)
    candidate.save(folder)
    return candidate


@pytest.fixture(scope="module")
def quantized(pruned, tmp_path_factory):
    context = small_context(tmp_path_factory.mktemp("inc_dynamic"))
    return check_stage(IncDynamic(), pruned, context)


def test_every_linear_layer_and_embedding_runs_as_int8(quantized):
    found = coverage(quantized.model)
    assert len(found.int8_linears) == LINEARS
    assert len(found.int8_embeddings) == 3
    assert not found.fp32_linears
    assert not found.fp32_embeddings
    assert "DynamicQuantizeMatMul" in found.operators
    assert "MatMulInteger" not in found.operators  # fused, not computed piece by piece


def test_decisions_name_the_layers_as_the_model_does(quantized):
    decisions = quantized.steps[-1].decisions
    assert "bert.encoder.layer.1.attention.self.query" in decisions["int8_linears"]
    assert "classifier" in decisions["int8_linears"]
    assert "bert.embeddings.word_embeddings" in decisions["int8_embeddings"]
    assert decisions["exceptions"] == {}
    assert decisions["parity"]["mean_difference"] < 0.005 * decisions["parity"]["range"]


def test_the_file_holds_int8_weights_and_no_path_of_this_machine(quantized):
    model = onnx.load(quantized.model.path)
    matrices = [t for t in model.graph.initializer if len(t.dims) == 2 and min(t.dims) > 1]
    kinds = {tensor.data_type for tensor in matrices if "position_ids" not in tensor.name}
    assert kinds == {onnx.TensorProto.INT8}
    assert b"site-packages" not in quantized.model.path.read_bytes()


def test_it_takes_and_gives_what_the_stock_export_does(quantized, pruned, tmp_path):
    stock = Export().apply(pruned, small_context(tmp_path))
    ours, theirs = open_session(quantized.model), open_session(stock.model)
    assert input_specs(ours) == input_specs(theirs)
    assert [o.name for o in ours.get_outputs()] == [o.name for o in theirs.get_outputs()]
    assert ours.get_outputs()[0].shape == theirs.get_outputs()[0].shape


def test_answers_stay_close_to_fp32(quantized, pruned):
    session = open_session(quantized.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(pruned, tagged_examples(20, seed=3), names)
    assert relative_error(expected, [session.run(None, feed)[0] for feed in feeds]) < 0.05


def test_a_fresh_process_prints_nothing_and_gives_the_same_bytes(quantized, pruned, tmp_path):
    source = pruned.model.directory.parent
    command = [sys.executable, "-c", SCRIPT, str(source), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="tests", timeout=300, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = tmp_path / "folder" / "model" / "model.onnx"
    assert file_digest(again) == file_digest(quantized.model.path)


def test_an_onnx_model_is_refused_in_words(tagger, tmp_path):
    assert isinstance(tagger.model, OnnxModel)
    with pytest.raises(StageError, match="put this stage before export"):
        IncDynamic().apply(tagger, small_context(tmp_path))


def test_quiet_hides_chatter_but_not_errors(caplog):
    import logging

    with quiet():
        logging.getLogger("neural_compressor.any").warning("chatter")
        logging.getLogger("neural_compressor.any").error("real")
    logging.getLogger("after").warning("heard again")
    assert [record.message for record in caplog.records] == ["real", "heard again"]


def test_a_table_that_is_the_last_layer_too_is_stored_once(tmp_path):
    candidate = write_encoder(tmp_path / "tied", "Bert", "masked-lm")
    result = IncDynamic().apply(candidate, small_context(tmp_path / "1"))
    decisions = result.steps[-1].decisions
    assert "cls.predictions.decoder" in decisions["int8_linears"]
    assert "bert.embeddings.word_embeddings" in decisions["int8_embeddings"]
    assert decisions["exceptions"] == {}
    graph = onnx.load(result.model.path).graph
    pieces = open_session(result.model).get_outputs()[0].shape[-1]
    tables = [t for t in graph.initializer if len(t.dims) == 2 and pieces in t.dims]
    assert [tensor.data_type for tensor in tables] == [onnx.TensorProto.INT8]
