"""`fuse`: fused graphs answer alike, and what measuring says decides."""

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import pytest
from helpers import SmallContext, labelled_texts, small_context, tagged_examples
from onnx import TensorProto, helper, numpy_helper
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.inputs import largest_difference, parity_feeds
from edgecompress.models.session import input_specs, open_session
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.fuse import SESSION_SKIP, Fuse
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Measurement, OnnxModel


@dataclass(frozen=True)
class TimingContext(SmallContext):
    """Times as a run does, only shorter."""

    def time(self, candidates):
        return time_interleaved(candidates, self.validation, min_duration_ms=20, min_count=10)


@dataclass(frozen=True)
class ToldContext(SmallContext):
    """Says that each operator of a graph, and each optimizer left on, costs what a table says."""

    costs: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)

    def time(self, candidates):
        from edgecompress.quantization.graphs.fusion import operator_counts

        times = []
        for candidate in candidates:
            model = candidate.model
            counts = operator_counts(model.path)
            counts["on"] = int(SESSION_SKIP not in model.session.disabled_optimizers)
            times.append(100 + sum(self.costs.get(op, 0) * n for op, n in counts.items()))
            self.seen.append(counts)
        return [
            (Measurement("latency_p50", t, "ms"), Measurement("speedup", times[0] / t, "x"))
            for t in times
        ]


def told(path, costs):
    for name in ("folder", "scratch", "cache"):
        (path / name).mkdir(parents=True)
    folders = {name: path / name for name in ("folder", "scratch", "cache")}
    return ToldContext(**folders, costs=costs, validation=tagged_examples(12))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_encoder(folder, "Bert", "token-classification", uneven=True)
    return Export().apply(encoder, small_context(folder / "export"))


def worst_difference(before, after):
    first, second = open_session(before.model), open_session(after.model)
    feeds = parity_feeds(before, tagged_examples(30, seed=8), input_specs(first), {}, 0)
    return max(
        largest_difference(first.run(None, feed), second.run(None, feed), feed) for feed in feeds
    )


def test_a_real_measurement_decides_and_answers_stay(exported, tmp_path):
    plain = small_context(tmp_path, validation=tagged_examples(20))
    context = TimingContext(**vars(plain))
    made = check_stage(Fuse(), exported, context)
    decisions = made.steps[-1].decisions
    assert decisions["judged_as"] == "int8"
    variants = made.steps[-1].measured["variants"]
    assert decisions["chosen"] in variants and "variants" not in decisions
    base = variants["none"]
    assert base["rounds"][0]["speedup"] == 1.0 and base["rounds"][0]["latency_p50_ms"] > 0
    assert worst_difference(exported, made) < 1e-4
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["model"]


def test_attention_with_uneven_heads_is_fused_where_it_helps(exported, tmp_path):
    stage = Fuse(judge="fp32", fusions=("attention", "gelu"))
    made = stage.apply(exported, told(tmp_path, {"Softmax": 20}))
    decisions = made.steps[-1].decisions
    assert decisions["fusions"] == ["attention"]
    assert decisions["operators"]["Attention"] == 2
    assert made.steps[-1].measured["variants"]["attention"]["max_abs_difference"] < 1e-4
    assert worst_difference(exported, made) < 1e-4


def test_only_one_way_to_fuse_attention_is_kept(exported, tmp_path):
    costs = {"Softmax": 20, "Attention": 1, "Erf": 10}
    stage = Fuse(judge="fp32", fusions=("attention", "multi_head_attention", "gelu"))
    decisions = stage.apply(exported, told(tmp_path, costs)).steps[-1].decisions
    assert decisions["fusions"] == ["multi_head_attention", "gelu"]


def test_a_fusion_that_costs_time_is_left_out_and_switched_off(exported, tmp_path):
    costs = {"Softmax": 20, "SkipLayerNormalization": 30, "on": 15}
    stage = Fuse(judge="fp32", fusions=("attention", "skip_layer_norm"))
    made = stage.apply(exported, told(tmp_path, costs))
    decisions = made.steps[-1].decisions
    assert decisions["fusions"] == ["attention"]
    assert made.model.session.disabled_optimizers == (SESSION_SKIP,)
    assert "SkipLayerNormalization" not in decisions["operators"]


def test_where_nothing_helps_the_graph_stays(exported, tmp_path):
    costs = {"Attention": 50, "MultiHeadAttention": 50, "BiasGelu": 50}
    costs |= {"SkipLayerNormalization": 50, "EmbedLayerNormalization": 50}
    made = Fuse(judge="fp32", fusions=("attention", "gelu")).apply(exported, told(tmp_path, costs))
    assert made.steps[-1].decisions["chosen"] == "none"
    assert onnx.load(made.model.path) == onnx.load(exported.model.path)


def test_variants_are_judged_as_int8_unless_told_otherwise(exported, tmp_path):
    context = told(tmp_path, {})
    made = Fuse(fusions=("attention", "skip_layer_norm")).apply(exported, context)
    assert all("DynamicQuantizeLinear" in counts for counts in context.seen)
    assert "DynamicQuantizeLinear" not in made.steps[-1].decisions["operators"]


def test_a_quantized_graph_gets_session_settings_only(exported, tmp_path):
    train = tagged_examples(20)
    for index, stage in enumerate((Dynamic(), Static(samples=8))):
        quantized = stage.apply(exported, small_context(tmp_path / f"q{index}", train=train))
        made = Fuse().apply(quantized, told(tmp_path / f"f{index}", {"on": 50}))
        assert set(made.steps[-1].measured["variants"]) == {"none", f"-{SESSION_SKIP}"}
        assert made.model.session.disabled_optimizers == (SESSION_SKIP,)
        assert made.model.path.read_bytes() == quantized.model.path.read_bytes()


def test_a_fusion_that_changes_the_answers_is_dropped(exported, tmp_path):
    stage = Fuse(judge="fp32", fusions=("layer_norm", "skip_layer_norm"), tolerance=1e-12)
    made = stage.apply(exported, told(tmp_path, {"LayerNormalization": 20, "Add": 5}))
    decisions = made.steps[-1].decisions
    dropped = made.steps[-1].measured["variants"]["skip_layer_norm"]
    assert dropped["outcome"] == "differs by more than 1e-12"
    assert "skip_layer_norm" not in decisions["fusions"]


def test_it_fuses_other_families_and_text_models(tmp_path):
    encoder = write_encoder(tmp_path / "torch", "XLMRoberta", "text-classification")
    source = Export().apply(encoder, small_context(tmp_path / "export"))
    context = replace(told(tmp_path / "run", {"Softmax": 20}), validation=labelled_texts(12))
    made = Fuse(judge="fp32", fusions=("attention",)).apply(source, context)
    assert made.steps[-1].decisions["operators"]["Attention"] == 2


def test_an_unknown_fusion_is_refused(exported, tmp_path):
    with pytest.raises(StageError, match="no fusion 'atention'"):
        Fuse(fusions=("atention",)).apply(exported, small_context(tmp_path))


def test_no_copy_of_the_weights_stays_in_memory(exported, tmp_path):
    """ONNX Runtime's optimizer holds the model in circles of references."""
    import gc

    from onnxruntime.transformers.fusion_base import Fusion
    from onnxruntime.transformers.onnx_model import OnnxModel as Optimized

    from edgecompress.quantization.graphs.fusion import fuse

    gc.disable()
    try:
        fuse(exported.model.path, ("attention",), "bert", tmp_path / "fused.onnx")
    finally:
        gc.enable()
    assert not any(issubclass(type(found), Optimized | Fusion) for found in gc.get_objects())


def test_equal_weights_that_must_keep_their_names_keep_them(tmp_path):
    """One is an output of the graph, one is read inside a branch."""
    from edgecompress.quantization.graphs.fusion import fuse

    same = np.arange(4, dtype=np.float32).reshape(2, 2)
    tensors = [numpy_helper.from_array(same, name) for name in ("used", "again", "given", "inner")]
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["x", weight], [name])], name, [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, weight in (("then", "inner"), ("else", "used"))
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "used"], ["y"]),
        helper.make_node("MatMul", ["y", "again"], ["z"]),
        helper.make_node("If", ["choice"], ["chosen"], **branches),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
        helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("z", "chosen", "given")
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    fuse(tmp_path / "m.onnx", ("gelu",), "bert", tmp_path / "fused.onnx")
    feed = {"x": np.ones((1, 2), np.float32), "choice": np.array(True)}
    found, expected = (
        open_session(OnnxModel(tmp_path / name)).run(None, feed)
        for name in ("fused.onnx", "m.onnx")
    )
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert {one.name for one in onnx.load(tmp_path / "fused.onnx").graph.initializer} >= {"given"}
