"""`quantize.dynamic`: all int8 or named, close to fp32, without torch and with little memory."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from helpers import small_context, tagged_examples
from onnx import TensorProto, helper, numpy_helper
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.values import Candidate, OnnxModel, SessionSettings, TorchModel


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return write_encoder(folder, "Bert", "token-classification", uneven=True)


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    return Export().apply(encoder, small_context(tmp_path_factory.mktemp("export")))


def test_every_linear_layer_and_embedding_runs_as_int8(exported, encoder, tmp_path):
    made = check_stage(Dynamic(), exported, small_context(tmp_path))
    decisions = made.steps[-1].decisions
    assert len(decisions["int8_linears"]) == 2 * 6 + 1
    assert len(decisions["int8_embeddings"]) == 3
    assert decisions["exceptions"] == {}
    found = coverage(made.model)
    assert not found.fp32_linears and not found.fp32_embeddings
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(encoder, tagged_examples(20, seed=3), names)
    assert relative_error(expected, [session.run(None, feed)[0] for feed in feeds]) < 0.1
    assert made.model.path.stat().st_size < exported.model.path.stat().st_size


def test_the_session_settings_stay_with_the_model(exported, tmp_path):
    settings = SessionSettings(disabled_optimizers=("SkipLayerNormFusion",))
    source = Candidate(OnnxModel(exported.model.path, settings))
    assert Dynamic().apply(source, small_context(tmp_path)).model.session == settings


def test_what_is_left_out_is_named(exported, tmp_path):
    stage = Dynamic(embeddings=False, exclude=("/classifier/MatMul",))
    made = stage.apply(exported, small_context(tmp_path))
    exceptions = made.steps[-1].decisions["exceptions"]
    assert exceptions["/classifier/MatMul"] == "excluded by the recipe"
    others = [reason for name, reason in exceptions.items() if "classifier" not in name]
    assert others == ["embeddings are off in the recipe"] * 3


def test_a_wrong_name_or_kind_is_refused(exported, tmp_path):
    with pytest.raises(StageError, match="did you mean '/classifier/MatMul'"):
        Dynamic(exclude=("/clasifier/MatMul",)).apply(exported, small_context(tmp_path))
    with pytest.raises(StageError, match="put `export` before it"):
        Dynamic().apply(Candidate(TorchModel(tmp_path)), small_context(tmp_path))


def test_the_same_model_gives_the_same_bytes(exported, tmp_path):
    made = [
        Dynamic().apply(exported, small_context(tmp_path / name)).model.path.read_bytes()
        for name in "ab"
    ]
    assert made[0] == made[1]


LAYERS = 16  # of 4 MB each: enough to stand out from the libraries
MEASURE = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[3])
from helpers import small_context
from edgecompress.models.fitting import row_of
from edgecompress.models.sizes import SizePlan
from edgecompress.models.session import input_specs, open_session
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.values import Candidate, OnnxModel
model = OnnxModel(Path(sys.argv[1]))
if sys.argv[2] == "libraries":
    session = open_session(OnnxModel(model.path.with_name("small.onnx")))
    session.run(None, row_of(input_specs(session), {}, SizePlan(1, 16)))
else:
    Dynamic().apply(Candidate(model), small_context(model.directory / "run"))
    assert "torch" not in sys.modules and "transformers" not in sys.modules
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def test_it_takes_the_weights_once_and_no_torch(tmp_path):
    """Not an inference's memory: that depends on whether the processor's kernels pack weights."""
    write_stack(tmp_path / "small.onnx", 1)
    write_stack(tmp_path / "model.onnx", LAYERS)
    peaks = {}
    for case in ("libraries", "dynamic"):
        arguments = [str(tmp_path / "model.onnx"), case, json.dumps(sys.path)]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True
        )
        peaks[case] = int(done.stdout)
    weights = LAYERS * 1024 * 1024 * 4 / 1024  # KiB
    assert peaks["dynamic"] - peaks["libraries"] < 1.5 * weights


def write_stack(path, layers):
    random = np.random.default_rng(0)
    weights = {f"w{i}": random.random((1024, 1024), np.float32) for i in range(layers)}
    names = ["x", *(f"x{i}" for i in range(1, layers)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)],
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 1024])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
