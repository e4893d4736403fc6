"""`quantize.half`: half the bytes, nearly the same answers, refused where fp16 gains nothing."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from helpers import SmallContext, small_context, tagged_examples
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.quantization.write.halves import in_half
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.half import Half
from edgecompress.values import Candidate, Measurement, OnnxModel


@dataclass(frozen=True)
class ToldContext(SmallContext):
    """Says that the second candidate is `ratio` times as fast as the first."""

    ratio: float = 1.0
    invalid: str | None = None

    def time(self, candidates):
        ratios = [1.0, self.ratio]
        return [
            (
                Measurement("latency_p50", 1 / r, "ms"),
                Measurement("speedup", r, "x", interval=(r - 0.1, r + 0.1), invalid=self.invalid),
            )
            for r in ratios[: len(candidates)]
        ]


def told(path, ratio, **fields):
    plain = small_context(path, validation=tagged_examples(12))
    return ToldContext(**(vars(plain) | {"ratio": ratio} | fields))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_encoder(folder, "Bert", "token-classification")
    return Export().apply(encoder, small_context(folder / "export"))


def weight_model(path, values):
    """Multiply by one matrix."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    size = values.shape[0]
    spec = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", size]) for n in ("x", "y")]
    graph = helper.make_graph(
        [node], "g", spec[:1], spec[1:], [numpy_helper.from_array(values, "w")]
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return Candidate(OnnxModel(path))


@pytest.mark.parametrize(("dtype", "limit"), [("fp16", 0.01), ("bf16", 0.2)])
def test_weights_in_half_are_cast_where_they_are_used(exported, tmp_path, dtype, limit):
    context = small_context(tmp_path, validation=tagged_examples(12))
    made = check_stage(Half(dtype=dtype), exported, context)
    decisions = made.steps[-1].decisions
    assert 0 < decisions["max_abs_difference"] < limit
    graph = onnx.load(made.model.path).graph
    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[dtype]
    halved = [t for t in graph.initializer if t.data_type == kind]
    assert len(halved) == decisions["weights"] > 10
    big = [
        t for t in graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 127
    ]
    assert not big
    # A table is looked up in half: only the rows are cast.
    tables = [n for n in graph.node if n.op_type == "Gather" and n.input[0].endswith(f"_{dtype}")]
    assert len(tables) == 2  # words and positions; the two rows of segments are too few
    assert decisions["bytes_after"] < decisions["bytes_before"]


def test_bf16_rounds_to_the_nearest_even():
    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -3.14159265, 1e38], np.float32)
    back = in_half(values, "bf16").astype(np.float32)
    assert back[:3].tolist() == [1.0, 1.0, 1.0 + 2**-6]
    assert np.all(np.abs(back - values) <= np.abs(values) * 2**-8)


def test_a_quantized_model_halves_what_is_left(exported, tmp_path):
    quantized = Dynamic(embeddings=False).apply(exported, small_context(tmp_path / "q"))
    made = Half().apply(quantized, small_context(tmp_path / "h"))
    assert made.model.path.stat().st_size < quantized.model.path.stat().st_size
    operators = {node.op_type for node in onnx.load(made.model.path).graph.node}
    assert "MatMulInteger" in operators and "Cast" in operators


def test_computing_in_half_is_kept_where_it_is_surely_faster(exported, tmp_path):
    stage = Half(compute="half")
    made = check_stage(stage, exported, told(tmp_path / "a", 1.8))
    graph = onnx.load(made.model.path).graph
    assert {v.type.tensor_type.elem_type for v in graph.output} == {TensorProto.FLOAT}
    weights = [
        t for t in graph.initializer if len(t.dims) == 2 and t.data_type != TensorProto.INT64
    ]
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    assert made.steps[-1].measured["half"]["speedup"] == 1.8
    open_session(made.model)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ratio": 0.4}, "0.40x as fast as before on local"),
        ({"ratio": 1.05}, "no gain that is sure"),
        ({"ratio": 2.0, "invalid": "emulated"}, "not to be trusted: emulated"),
    ],
)
def test_computing_in_half_is_refused_where_it_is_not(exported, tmp_path, fields, words):
    with pytest.raises(StageError, match=words):
        Half(compute="half").apply(exported, told(tmp_path, **fields))


def test_made_again_it_times_nothing(exported, tmp_path):
    context = small_context(tmp_path, validation=tagged_examples(8))
    made = Half(compute="half").apply(exported, context, {"dtype": "fp16"})
    assert made.steps[-1].measured == {}


def test_bad_weights_and_models_are_told(tmp_path):
    values = np.ones((16, 16), np.float32)
    values[3, 3] = 1e6
    large = weight_model(tmp_path / "large.onnx", values)
    with pytest.raises(StageError, match="nothing to do"):
        Half().apply(large, small_context(tmp_path / "a"))
    Half(dtype="bf16").apply(large, small_context(tmp_path / "b"))
    values[3, 3] = np.nan
    broken = weight_model(tmp_path / "broken.onnx", values)
    with pytest.raises(
        StageError, match=r"nothing to do \(w: it holds numbers that are not finite"
    ):
        Half().apply(broken, small_context(tmp_path / "c"))


def test_a_tolerance_is_kept(exported, tmp_path):
    with pytest.raises(StageError, match="differ by"):
        Half(tolerance=1e-9).apply(exported, small_context(tmp_path))


def test_bf16_arithmetic_is_refused_at_once():
    with pytest.raises(ValidationError, match="do not compute in bf16"):
        Half(dtype="bf16", compute="half")
