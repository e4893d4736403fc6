"""Graphs of PyTorch's exporter fuse as those of Optimum's do, before pruning and after it."""

import numpy as np
import onnx
import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples
from small_encoders import torch_logits, write_encoder

from edgecompress.models.session import input_specs, open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.fusion import fuse, operator_counts
from edgecompress.quantization.graphs.patterns import prepare_for_fusion
from edgecompress.stages.export import Export
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.values import OnnxModel

DATA = {"token-classification": tagged_examples, "text-classification": labelled_texts}
FUSIONS = ("attention", "gelu", "layer_norm", "skip_layer_norm", "embed_layer_norm")
# A second run of the same layer (ALBERT) reads weights that the first has packed.
ATTENTIONS = {"Albert": 1}
# RoBERTa's positions depend on the ids, which the kernel does not compute.
NO_EMBEDDING = {"Roberta", "XLMRoberta"}


@pytest.mark.parametrize(
    ("family", "task", "uneven"),
    [
        ("Bert", "token-classification", True),
        ("Bert", "text-classification", False),
        ("XLMRoberta", "token-classification", True),
        ("Roberta", "text-classification", True),
        ("DistilBert", "token-classification", True),
        ("Electra", "text-classification", True),
        ("Albert", "token-classification", False),
    ],
)
def test_attention_and_embeddings_are_fused(tmp_path, family, task, uneven):
    # As many positions as models have: their numbers lie outside of the graph that is read.
    candidate = write_encoder(tmp_path / "torch", family, task, uneven=uneven, positions=512)
    made = Export(exporter="dynamo").apply(candidate, small_context(tmp_path / "run"))
    assert made.steps[-1].decisions["exporter"] == "dynamo"
    examples = DATA[task](10, seed=5)
    names = tuple(spec.name for spec in input_specs(open_session(made.model)))
    expected, feeds = torch_logits(candidate, examples, names)
    fused = OnnxModel(tmp_path / "fused" / "model.onnx")
    fuse(made.model.path, FUSIONS, "bert", fused.path)
    counts = operator_counts(fused.path)
    assert counts["Attention"] == ATTENTIONS.get(family, 2)
    assert counts.get("EmbedLayerNormalization", 0) == (family not in NO_EMBEDDING)
    assert "Softmax" not in counts or family in ATTENTIONS
    matrices = [
        tensor.raw_data
        for tensor in onnx.load(fused.path).graph.initializer
        if len(tensor.dims) == 2
    ]
    assert len({*matrices}) == len(matrices)  # ALBERT's layers are one
    session = open_session(fused)
    for logits, feed in zip(expected, feeds, strict=True):
        assert np.abs(session.run(None, feed)[0] - logits).max() < 1e-4
    assert [file.name for file in fused.path.parent.iterdir()] == ["model.onnx"]


class OneAttention(torch.nn.Module):
    """Embeddings and one attention whose mask and scale are written in one of many ways."""

    def __init__(self, mask, before=1.0, after=0.25, bias=None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = torch.nn.Embedding(11, 32)
        self.parts = torch.nn.ModuleList([torch.nn.Linear(32, 32) for _ in range(4)])
        self.norm = torch.nn.LayerNorm(32)
        self.mask, self.before, self.after, self.bias = mask, before, after, bias

    def forward(self, input_ids, attention_mask):
        x = self.table(input_ids)
        q, k, v = (part(x).unflatten(-1, (-1, 16)).transpose(1, 2) for part in self.parts[:3])
        if self.mask is fused_by_torch:
            mixed = self.mask(q, k, v, attention_mask)
        else:
            scores = (q * self.before) @ k.transpose(-1, -2) * self.after
            if self.bias is not None:
                scores = scores + self.bias * torch.arange(scores.shape[-1])
            mixed = self.mask(scores, attention_mask).softmax(-1) @ v
        return self.norm(self.parts[3](mixed.transpose(1, 2).flatten(2)) + x)


def fused_by_torch(q, k, v, mask):
    seen = mask[:, None, None, :].bool()
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, seen)


def added(scores, mask):
    return scores + (1 - mask[:, None, None, :].float()) * -1e4


def filled(scores, mask):
    padded = (mask == 0)[:, None, None].expand(scores.shape)
    return scores.masked_fill(padded, torch.finfo(scores.dtype).min)


def chosen(scores, mask):
    seen = mask[:, None, None, :].bool() & torch.ones(scores.shape[-1], dtype=torch.bool)[:, None]
    return torch.where(seen, scores, -torch.inf)


def window(scores, mask):
    places = torch.arange(scores.shape[-1])
    near = (places[:, None] - places).abs() <= 2
    return torch.where(near & mask[:, None, None, :].bool(), scores, -1e9)


def causal(scores, mask):
    places = torch.arange(scores.shape[-1])
    return torch.where(places[:, None] >= places, scores, -1e9) + 0 * mask[:, None, None, :]


def softly(scores, mask):
    return scores + (1 - mask[:, None, None, :].float()) * -3


def traced(module, folder):
    ones = torch.ones((2, 7), dtype=torch.int64)
    example = {"input_ids": ones, "attention_mask": ones}
    axes = {name: {0: "batch", 1: "length"} for name in example}
    path = folder / "traced.onnx"
    export_module(module.eval(), Traced(example, axes, ("hidden",)), path, 18)
    return path


@pytest.mark.parametrize("mask", [added, filled, chosen, fused_by_torch])
def test_every_way_to_write_a_mask_is_known(tmp_path, mask):
    scales = {"before": 0.5, "after": 0.5} if mask is filled else {}
    module = OneAttention(mask, **scales)
    path = traced(module, tmp_path)
    fuse(path, ("multi_head_attention",), "bert", tmp_path / "fused" / "model.onnx")
    assert operator_counts(tmp_path / "fused" / "model.onnx")["MultiHeadAttention"] == 1
    session = open_session(OnnxModel(tmp_path / "fused" / "model.onnx"))
    draw = np.random.default_rng(0)
    for shape in ((3, 9), (1, 4)):
        feed = {"input_ids": draw.integers(0, 11, shape), "attention_mask": np.ones(shape, int)}
        feed["attention_mask"][0, shape[1] // 2 :] = 0
        with torch.no_grad():
            expected = module(**{k: torch.from_numpy(v) for k, v in feed.items()}).numpy()
        assert np.abs(session.run(None, feed)[0] - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("mask", "given"),
    [
        (window, {}),
        (causal, {}),
        (softly, {}),
        (added, {"after": 0.3}),
        (added, {"bias": 0.1}),
    ],
    ids=["local", "causal", "soft", "another scale", "bias of positions"],
)
def test_what_the_kernel_does_not_compute_stays_as_it_is(tmp_path, mask, given):
    path = traced(OneAttention(mask, **given), tmp_path)
    model = read_model(path)
    before = model.proto.SerializeToString()
    assert not prepare_for_fusion(model)
    assert model.proto.SerializeToString() == before


@pytest.mark.parametrize("mask", [added, None])
def test_what_is_known_already_stays_byte_for_byte(tmp_path, mask):
    path = traced(OneAttention(mask or (lambda scores, _: scores)), tmp_path)
    model = read_model(path)
    assert prepare_for_fusion(model)
    before = model.proto.SerializeToString()
    assert not prepare_for_fusion(model)
    assert model.proto.SerializeToString() == before
    write_model(model, tmp_path / "again.onnx")
    onnx.checker.check_model(tmp_path / "again.onnx", full_check=True)
