"""Sound classifiers of transformers and of ours: taught, distilled, exported and quantized."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from commands import in_process
from helpers import small_context
from tones import FRONT_END, RATE, TONES, sounds_of_tones, write_folder

from edgecompress.engine.single import guess_task
from edgecompress.errors import EdgeCompressError
from edgecompress.modules.keyword_networks import (
    ResKeywordConfig,
    ResKeywordForAudioClassification,
)
from edgecompress.stage import stage_class
from edgecompress.surgery.model import load_module
from edgecompress.training import batch_norms
from edgecompress.training.encoding import make_rows
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32}  # fmt: skip
SPEECH = {**SMALL, "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4),
          "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
          "num_feat_extract_layers": 2, "classifier_proj_size": 8}  # fmt: skip
WAVES = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": RATE}
BANDS = {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": RATE,
         "num_mel_bins": 32, "max_length": 48}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "AST": ("AudioClassification", {**SMALL, "max_length": 48, "num_mel_bins": 32}, BANDS),
    "Wav2Vec2": ("SequenceClassification", SPEECH, WAVES),
    "Hubert": ("SequenceClassification", SPEECH, WAVES),
}


def write_model(kind: str, folder: Path) -> Path:
    head, fields, processor = MODELS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**fields, id2label=dict(enumerate(TONES)))
    getattr(transformers, f"{kind}For{head}")(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def opened(place: Path, folder: Path) -> tuple[Candidate, Any]:
    """Import a model as a teacher, and give a context with sounds for it."""
    made = import_teacher(str(place), "audio-classification", TONES, folder / "teacher")
    examples = sounds_of_tones(3)
    return made, replace(small_context(folder / "c"), train=examples, validation=examples)


@pytest.mark.parametrize("kind", ["AST", "Wav2Vec2"])  # frames and samples
def test_models_of_transformers_are_exported_with_an_open_batch(kind: str, tmp_path: Path) -> None:
    """The stage compares ONNX Runtime's answers with PyTorch's, one at a time and several."""
    candidate, context = opened(write_model(kind, tmp_path / "hf"), tmp_path)
    made = stage_class("export")(exporter="dynamo").apply(candidate, context)
    decided = made.steps[-1].decisions
    assert decided["parity"]["max_abs_difference"] < 1e-4
    expected = ["batch"] if kind == "AST" else ["batch", "length"]
    assert decided["dynamic_axes"]["input_values"] == expected


def test_what_a_sound_classifier_answers_is_guessed_from_its_files(tmp_path: Path) -> None:
    """HuBERT's class ends as a classifier's of texts does."""
    folder = write_model("Hubert", tmp_path / "hf")
    assert guess_task(folder) == "audio-classification"
    (folder / "preprocessor_config.json").unlink()
    assert guess_task(folder) == "text-classification"


def test_a_model_without_its_front_end_is_refused(tmp_path: Path) -> None:
    bare = write_model("AST", tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(EdgeCompressError, match=r"config\.json is missing, which says at which"):
        import_teacher(str(bare), "audio-classification", TONES, tmp_path / "made")


def keyword_network(folder: Path, width: int = 12, **fields: Any) -> Path:
    torch.manual_seed(1)
    config = ResKeywordConfig(width, (width,) * 2, id2label=dict(enumerate(TONES)), **fields)
    ResKeywordForAudioClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(FRONT_END))
    return folder


def test_the_network_is_that_of_its_paper() -> None:
    """Parameters of res8 and res15 as the paper counts them, without those of batch norms."""
    for fields, expected in (
        ({}, 110_000),
        ({"inner": (45,) * 6, "pool": None, "dilated": True}, 238_000),
    ):
        config = ResKeywordConfig(**fields, id2label=dict(enumerate("abcdefghijkl")))
        module = ResKeywordForAudioClassification(config).eval()
        found = sum(one.numel() for one in module.parameters())
        assert abs(found - expected) < 20_000
        assert module(torch.zeros(2, 21, 12)).logits.shape == (2, 12)
        assert {"conv0.weight", "bn1.running_mean", "scale1", "output.bias"} <= set(
            module.state_dict()
        )


def test_a_narrower_network_keeps_channels_that_count() -> None:
    """Where only some channels do anything, those alone give the same answers."""
    torch.manual_seed(0)
    module = ResKeywordForAudioClassification(ResKeywordConfig(6, (6, 6), num_labels=3)).eval()
    with torch.no_grad():
        for one in module.modules():
            if isinstance(one, torch.nn.BatchNorm2d):
                one.running_mean.uniform_(-0.1, 0.1)
                one.running_var.uniform_(0.5, 2)
        module.output.weight[:, 4:] = 0
        module.conv1.weight[:, 4:] = 0
        module.conv3.weight[:, 4:] = 0
        module.conv2.weight[:, 5] = 0
        module.conv4.weight[:, 5] = 0
    sound = torch.randn(2, 40, 24)
    narrow = module.narrowed(4, (5, 5))
    assert torch.allclose(narrow(sound).logits, module(sound).logits, atol=1e-5)
    assert narrow.config.width == 4 and narrow.config.inner == [5, 5]


def test_normalizations_without_scale_follow_what_was_cut_and_not_the_examples(
    tmp_path: Path,
) -> None:
    """They hold what other sounds gave: measured anew on a few, they would answer otherwise."""
    candidate, context = opened(keyword_network(tmp_path / "hf"), tmp_path)
    module = load_module(candidate.model)
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            one.running_mean.uniform_(-1, 1)
            one.running_var.uniform_(0.1, 3)
    rows = make_rows(candidate, context.train, module)
    feed = rows.feed(range(len(rows)))
    with torch.no_grad():
        before = module(**feed).logits
        measured = batch_norms.measure_inputs(module, rows)
        assert batch_norms.estimate_again(module, rows, measured) == len(measured) > 0
        assert torch.allclose(module(**feed).logits, before, atol=0.05 * float(before.std()))
        assert all(one.weight is None for one in batch_norms.batch_norms(module))
        batch_norms.estimate_again(module, rows)
        assert (module(**feed).logits - before).abs().max() > before.std()


@pytest.mark.parametrize("kind", ["kept", "trained"])
def test_batch_normalizations_are_kept_or_follow_the_batches(kind: str, tmp_path: Path) -> None:
    candidate, context = opened(keyword_network(tmp_path / "hf", 4), tmp_path)
    stage = stage_class("finetune")(epochs=2, learning_rate=1e-2, batch_size=4, batch_norms=kind)
    made = stage.apply(candidate, context)
    before, after = (load_module(one.model).state_dict() for one in (candidate, made))
    norms = [name for name in before if "running" in name]
    changed = [not torch.equal(before[name], after[name]) for name in norms]
    assert len(norms) == 8 and set(changed) == {kind == "trained"}
    assert all(torch.isfinite(after[name]).all() for name in norms)


def test_a_recipe_teaches_distils_and_quantizes_a_keyword_network(tmp_path: Path) -> None:
    keyword_network(tmp_path / "wide")
    keyword_network(tmp_path / "narrow", 5)
    for seed, split in enumerate(("train", "dev", "test")):
        write_folder(tmp_path / split, 12 if split == "train" else 4, seed)
    recipe = {
        "name": "tones", "task": "audio-classification",
        "teacher": {"model": "wide", "finetune": {"epochs": 3, "learning_rate": 1e-2}},
        "model": "narrow",
        "data": {"format": "sounds", "root": ".", "train": "train", "validation": "dev",
                 "test": "test"},
        "stages": [{"distil": {"epochs": 4, "learning_rate": 2e-2, "batch_norms": "trained"}},
                   "export", "quantize.static"],
        "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "min_count": 20,
                    "cold_starts": 0, "attempts": 1},
        "budget": {"accuracy": {"min": "60%"}},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = in_process("run", tmp_path / "recipe.yaml", "-o", tmp_path / "out",
                      EDGECOMPRESS_STORE=str(tmp_path / "store"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = in_process("predict", tmp_path / "out" / "bundle", tmp_path / "test" / "low" / "0.wav")
    assert said.stdout.startswith("low")
