"""``models/afriberta-ner.yaml`` on AfriBERTa's own shape with random weights.

XLM-R architecture, 6 heads, 70,006 pieces, 4 layers (the small one), with a sentencepiece tokenizer
and nothing else, as on the hub; a quarter as wide (192 for 768), as files of 300 MB take minutes.
The weights cannot be had offline; all that depends on shape and tokenizer can be run.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from helpers import tagged_examples

from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.run import run
from edgecompress.resources import resource_folder
from edgecompress.texts import tags_of, words_of

STAGES = (
    "stages=[prune.structured: {heads: 0.25, ffn: 0.5, samples: 8}, "
    "export, fuse: {fusions: [attention]}, quantize.dynamic]"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForTokenClassification

    folder = tmp_path_factory.mktemp("afriberta")
    chance = random.Random(0)
    words = sorted({word for example in tagged_examples(200) for word in words_of(example)})
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(chance.choices(words, k=8)) for _ in range(400)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=50,
        minloglevel=2, num_threads=1,
    )  # fmt: skip
    text.unlink()
    (folder / "sentencepiece.bpe.vocab").unlink()
    config = {"model_max_length": 512, "tokenizer_class": "XLMRobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    shape = XLMRobertaConfig(
        vocab_size=70_006, hidden_size=192, intermediate_size=768, num_attention_heads=6,
        num_hidden_layers=4, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1,
        id2label=dict(enumerate(("O", "B-LOC", "B-PER"))),
    )  # fmt: skip
    model = XLMRobertaForTokenClassification(shape)
    model.classifier.bias.data[0] = 10  # it answers O, always
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conll")
    for seed, name in enumerate(("train", "dev", "test")):
        for language in ("hau", "ibo", "pcm", "swa", "yor"):
            lines = []
            for example in tagged_examples(6, seed=seed):
                lines += [
                    f"{w} {t}" for w, t in zip(words_of(example), tags_of(example), strict=True)
                ]
                lines.append("")
            (folder / language).mkdir(exist_ok=True)
            (folder / language / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_shape_runs_end_to_end(checkpoint, data, tmp_path):
    settings = [
        f"teacher.model={checkpoint}", f"data.root={data}", "teacher.finetune=null", STAGES,
        "profile={min_duration_ms: 100, warmup_ms: 0, max_warmup_ms: 50, min_count: 20, "
        "cold_starts: 0, attempts: 1}",
        "budget={compression: {min: 4x}}",
    ]  # fmt: skip
    file = resource_folder("models") / "afriberta-ner.yaml"
    assert len(load_recipe(file).chains) == 4
    result = run(file, tmp_path / "out", settings=settings, store=tmp_path / "store")
    assert (result.verdict.state, result.winner) == ("undecided", None)  # nobody taught the teacher
    small = next(row for row in result.rows if "quantize.dynamic" in row.name)
    reference = next(row for row in result.rows if row.name == "onnx-fp32")
    size = {row.name: next(m.value for m in row.measurements if m.metric == "size")
            for row in (small, reference)}  # fmt: skip
    assert size["onnx-fp32"] > 60e6
    assert size[small.name] * 4 < size["onnx-fp32"]
    decisions = small.steps[-1].decisions
    assert not decisions["exceptions"]
    files = {m.slice for m in small.measurements if (m.slice or "").startswith("file:")}
    assert files == {f"file:{name}" for name in ("hau", "ibo", "pcm", "swa", "yor")}
