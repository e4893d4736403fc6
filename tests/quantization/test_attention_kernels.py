"""Attention with windows, biases and rotary positions becomes ONNX Runtime's kernels."""

import math

import numpy as np
import onnxruntime as ort
import pytest
import torch
import transformers
from helpers import labelled_texts, small_context
from small_encoders import torch_logits, write_encoder

from edgecompress.models.session import input_specs, open_session
from edgecompress.models.storage import read_model
from edgecompress.processors.text import AXES
from edgecompress.quantization.graphs.exporting import export_graph
from edgecompress.quantization.graphs.fusion import fuse, operator_counts
from edgecompress.quantization.graphs.layers import find_layers
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.surgery.onnx_export import optimum_is_installed
from edgecompress.values import OnnxModel

EXPORTERS = ("dynamo", *(["optimum"] if optimum_is_installed() else []))
SIZE = 8


def placed(scores):
    return torch.arange(scores.shape[-1])


def near(scores, mask, reach=2):
    places = placed(scores)
    return ((places[:, None] - places).abs() <= reach) & mask[:, None, None, :].bool()


def window_added(scores, mask):
    lowest = torch.finfo(scores.dtype).min
    return scores + torch.zeros(()).masked_fill(~near(scores, mask), lowest)


def window_chosen(scores, mask):
    return torch.where(near(scores, mask), scores, -torch.inf)


def by_distance(scores, mask):
    places = placed(scores)
    slopes = torch.arange(1, scores.shape[1] + 1)[:, None, None] / 9.0
    biased = scores + slopes * -(places[:, None] - places).abs()
    return biased + (1 - mask[:, None, None, :].float()) * -1e4


def causal(scores, mask):
    places = placed(scores)
    seen = (places[:, None] >= places) & mask[:, None, None, :].bool()
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min)


def waves(length, mask=None, every=1):
    speeds = 100.0 ** (-torch.arange(0, SIZE, 2) / SIZE)
    places = torch.arange(length)[None] if mask is None else mask.cumsum(-1)
    angles = places[..., None] * speeds
    both = torch.cat([angles, angles], -1) if every == 1 else angles.repeat_interleave(2, -1)
    return both.cos()[:, None], both.sin()[:, None]


def halves(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def pairs(x, cos, sin):
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * cos + turned * sin


class Layer(torch.nn.Module):
    """One attention, its queries, keys and values from three layers or from one."""

    def __init__(self, heads, masked, rotated=None, scale=1.0, merged=False):
        super().__init__()
        width = heads * SIZE
        self.heads, self.masked, self.rotated, self.scale = heads, masked, rotated, scale
        sizes = [3 * width] if merged else [width] * 3
        self.parts = torch.nn.ModuleList([torch.nn.Linear(24, n) for n in sizes])
        self.out, self.norm = torch.nn.Linear(width, 24), torch.nn.LayerNorm(24)

    def forward(self, x, mask):
        parts = [part(x) for part in self.parts]
        if len(parts) == 1:
            parts = parts[0].unflatten(-1, (3, self.heads, SIZE)).unbind(2)
            q, k, v = (part.transpose(1, 2) for part in parts)
        else:
            q, k, v = (part.unflatten(-1, (self.heads, SIZE)).transpose(1, 2) for part in parts)
        if self.rotated:
            q, k = (self.rotated(part, mask) for part in (q, k))
        scores = q @ k.transpose(-1, -2) * (self.scale / math.sqrt(SIZE))
        shares = self.masked(scores, mask).softmax(-1)
        if self.masked is window_chosen:  # the window of padding may hold nothing but padding
            shares = torch.where(shares.isnan(), 0.0, shares)
        mixed = shares @ v
        return self.norm(self.out(mixed.transpose(1, 2).flatten(2)) + x)


class Layers(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        torch.manual_seed(3)
        self.table = torch.nn.Embedding(11, 24)
        self.layers = torch.nn.ModuleList([Layer(**each) for each in layers])

    def forward(self, input_ids, attention_mask):
        x = self.table(input_ids)
        for layer in self.layers:
            x = layer(x, attention_mask)
        return x


def traced(module, folder):
    ones = torch.ones((2, 7), dtype=torch.int64)
    example = {"input_ids": ones, "attention_mask": ones}
    axes = {name: {0: "batch", 1: "length"} for name in example}
    export_module(module.eval(), Traced(example, axes, ("hidden",)), folder / "traced.onnx", 18)
    return folder / "traced.onnx"


def rotary(x, mask):
    return halves(x, *waves(x.shape[2]))


def scaled_after(scores, mask):
    return window_added(scores, mask) * 0.5


KNOWN = (
    {"heads": 3, "masked": window_added},
    {"heads": 2, "masked": by_distance},  # as after pruning: each layer has its own number
    {"heads": 1, "masked": causal, "scale": 0.7},
    {"heads": 2, "masked": window_chosen, "rotated": rotary},
)
UNKNOWN = (
    {"heads": 1, "masked": scaled_after},
    {"heads": 1, "masked": causal, "rotated": lambda x, _: pairs(x, *waves(x.shape[2], every=2))},
    {"heads": 1, "masked": causal, "rotated": lambda x, m: halves(x, *waves(x.shape[2], m))},
)


def test_windows_biases_and_rotary_positions_are_kernels_and_nothing_else_is(tmp_path):
    module = Layers((*KNOWN, *UNKNOWN))
    path = traced(module, tmp_path)
    fuse(path, ("multi_head_attention",), "bert", tmp_path / "fused" / "model.onnx")
    counts = operator_counts(tmp_path / "fused" / "model.onnx")
    assert counts["MultiHeadAttention"] == len(KNOWN) and counts["Softmax"] == len(UNKNOWN)
    assert counts["RotaryEmbedding"] == 2
    plain, fused = (
        ort.InferenceSession(each, providers=["CPUExecutionProvider"])
        for each in (path, tmp_path / "fused" / "model.onnx")
    )
    draw = np.random.default_rng(0)
    for shape in ((3, 9), (1, 4), (2, 20)):
        feed = {"input_ids": draw.integers(0, 11, shape), "attention_mask": np.ones(shape, int)}
        feed["attention_mask"][0, shape[1] // 2 :] = 0
        seen = feed["attention_mask"].astype(bool)
        expected, found = (each.run(None, feed)[0][seen] for each in (plain, fused))
        assert np.abs(expected - found).max() < 1e-5
        with torch.no_grad():
            answer = module(**{k: torch.from_numpy(v) for k, v in feed.items()}).numpy()[seen]
        assert np.abs(answer - found).max() < 1e-5


FUSED = ("multi_head_attention", "gelu", "layer_norm", "skip_layer_norm")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_modernbert_is_fused_after_pruning_and_becomes_int8(tmp_path, exporter):
    encoder = write_encoder(tmp_path / "torch", "ModernBert", "text-classification", uneven=True)
    examples = labelled_texts(10, seed=5)
    made = Export(exporter=exporter).apply(
        encoder, small_context(tmp_path / "run", validation=examples)
    )
    names = tuple(spec.name for spec in input_specs(open_session(made.model)))
    expected, feeds = torch_logits(encoder, examples, names)
    fused = OnnxModel(tmp_path / "fused" / "model.onnx")
    fuse(made.model.path, FUSED, "bert", fused.path)
    counts = operator_counts(fused.path)
    assert counts["MultiHeadAttention"] == 2 and counts["RotaryEmbedding"] == 4
    assert not {"Softmax", "Erf"} & {*counts}
    assert worst(open_session(fused), feeds, expected) < 1e-5
    for stage in (Dynamic(), Static(samples=8)):
        context = small_context(tmp_path / type(stage).__name__, train=examples)
        int8 = stage.apply(made.with_model(fused), context).model
        assert operator_counts(int8.path)["MultiHeadAttention"] == 2
        assert all(layer.kind != "matmul" for layer in find_layers(read_model(int8.path)))
        assert worst(open_session(int8), feeds, expected) < 0.2


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_position_bias_of_mpnet_is_read_by_the_kernel(tmp_path, exporter):
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=40, initializer_range=0.2, return_dict=True,
    )  # fmt: skip
    module = transformers.MPNetForSequenceClassification(config).eval()
    with torch.no_grad():  # a fresh model's biases are all zero, and one constant in the graph
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.2)
    ones = torch.ones((2, 7), dtype=torch.int64)
    example = {"input_ids": ones, "attention_mask": ones}
    traced = Traced(example, dict.fromkeys(example, AXES), ("logits",))
    path = tmp_path / "exported" / "model.onnx"
    export_graph(module, "text-classification", path, exporter, traced=traced)
    draw, feeds, expected = np.random.default_rng(0), [], []
    for shape in ((1, 3), (3, 30)):
        mask = np.ones(shape, np.int64)
        mask[0, 2:] = 0
        feeds.append({"input_ids": draw.integers(3, 40, shape), "attention_mask": mask})
        given = {name: torch.from_numpy(value) for name, value in feeds[-1].items()}
        with torch.no_grad():
            expected.append(module(**given).logits.numpy())
    for fusions in (FUSED, ("sequence_first",)):
        fuse(path, fusions, "bert", tmp_path / "fused.onnx")
        counts = operator_counts(tmp_path / "fused.onnx")
        kernels = counts.get("MultiHeadAttention", 0) + counts.get("FusedMatMul", 0) / 2
        assert kernels == 2
        assert worst(open_session(OnnxModel(tmp_path / "fused.onnx")), feeds, expected) < 1e-5


def worst(session, feeds, expected):
    """Largest difference of logits, over the largest of them."""
    gaps = [
        np.abs(session.run(None, feed)[0] - logits).max()
        for feed, logits in zip(feeds, expected, strict=True)
    ]
    return max(gaps) / max(np.abs(logits).max() for logits in expected)
