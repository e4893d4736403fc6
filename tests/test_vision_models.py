"""Image classifiers of transformers: fine-tuned, cut, distilled, exported and quantized."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from commands import in_process
from helpers import small_context
from pictures import COLOURS, pictures_of_colours, write_folder

from edgecompress.errors import EdgeCompressError
from edgecompress.models.session import open_session
from edgecompress.stage import stage_class
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, OnnxModel

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 64, "image_size": 32, "patch_size": 8}  # fmt: skip
SQUARE = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
CUT = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ViT": (SMALL, SQUARE),
    "DeiT": (SMALL, SQUARE),
    "ResNet": (
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
        CUT,
    ),
    "ConvNext": ({"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, CUT),
    "EfficientNet": (
        {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 32, "width": 32}},
    ),
}  # fmt: skip


def write_model(kind: str, folder: Path) -> Path:
    fields, processor = MODELS[kind]
    torch.manual_seed(0)
    names = dict(enumerate(COLOURS))
    config = getattr(transformers, f"{kind}Config")(**fields, id2label=names)
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def opened(kind: str, folder: Path) -> tuple[Candidate, Any]:
    """Import a model as a teacher, and give a context with images for it."""
    place = write_model(kind, folder / "hf")
    made = import_teacher(str(place), "image-classification", COLOURS, folder / "teacher")
    examples = pictures_of_colours(4)
    return made, replace(small_context(folder / "c"), train=examples, validation=examples)


@pytest.mark.parametrize("kind", ["ConvNext", "EfficientNet"])
def test_convolutional_models_are_exported_with_an_open_batch(kind: str, tmp_path: Path) -> None:
    """The stage compares ONNX Runtime's answers with PyTorch's, one at a time and several.

    Without data the task makes images up.
    """
    candidate, context = opened(kind, tmp_path)
    if bare := kind == "ConvNext":
        context = replace(context, train=(), validation=())
    made = stage_class("export")(exporter="dynamo").apply(candidate, context)
    decided = made.steps[-1].decisions
    assert decided["parity"]["max_abs_difference"] < 1e-4
    batches = {shape[0] for shape in decided["parity"]["shapes"]}
    assert len(batches) > 1 if bare else batches == {1, 4}
    assert decided["dynamic_axes"]["pixel_values"] == ["batch"]


def test_patches_of_a_mobilevit_are_exported_with_an_open_batch(tmp_path: Path) -> None:
    """They lie beside each other across images; the whole model takes half a minute to trace."""
    from transformers.models.mobilevit.modeling_mobilevit import MobileViTLayer

    torch.manual_seed(0)
    config = transformers.MobileViTConfig(image_size=32, num_attention_heads=4)
    layer = MobileViTLayer(config, 8, 16, stride=2, hidden_size=16, num_stages=1).eval()
    given = {"features": torch.randn(3, 8, 16, 16)}
    traced = Traced({"features": given["features"][:2]}, {"features": {0: "batch"}}, ("answer",))
    export_module(layer, traced, tmp_path / "layer.onnx", 18)
    session = open_session(OnnxModel(tmp_path / "layer.onnx"))
    (found,) = session.run(None, {"features": given["features"].numpy()})
    with torch.no_grad():
        assert np.allclose(found, layer(**given).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_heads_and_neurons_of_vision_transformers_go_for_good(kind: str, tmp_path: Path) -> None:
    from edgecompress.surgery.model import load_module

    candidate, context = opened(kind, tmp_path)
    made = stage_class("prune.structured")(heads=0.5, ffn=0.5).apply(candidate, context)
    decided = made.steps[-1].decisions
    assert sum(map(len, decided["heads"])) == 4 and sum(decided["neurons"]) == 64
    before, after = (
        sum(one.numel() for one in load_module(each.model).parameters())
        for each in (candidate, made)
    )
    assert after < 0.8 * before


@pytest.mark.parametrize("kind", ["ViT", "DeiT"])
def test_hidden_channels_of_vision_transformers_go_for_good(kind: str, tmp_path: Path) -> None:
    """Where the second half of the channels repeats the first and is not read, nothing changes."""
    from edgecompress.surgery.families import blocks
    from edgecompress.surgery.hidden import WRITES, hidden_norms, keep_hidden, reader
    from edgecompress.surgery.model import load_module, save_module

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL)
    module = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    half = SMALL["hidden_size"] // 2
    embeddings = module.base_model.embeddings
    written = [one for one in embeddings.parameters() if one.shape[-1] == 2 * half]
    patches = embeddings.patch_embeddings.projection
    with torch.no_grad():
        for one in module.parameters():
            if one.ndim == 1 or one.ndim == 3:
                torch.nn.init.normal_(one)
        for one in written:
            one[..., half:] = one[..., :half]
        parts = [patches, *(block.part(role) for block in blocks(module) for role in WRITES)]
        for one in (*parts, *hidden_norms(module)):
            one.weight[half:] = one.weight[:half]
            one.bias[half:] = one.bias[:half]
        read = (block.part(r) for block in blocks(module) for r in ("query", "key", "value",
                                                                    "ffn_in"))  # fmt: skip
        for one in (*read, reader(module)):
            one.weight[:, half:] = 0
        pixels = torch.randn(2, 3, 32, 32)
        expected = module(pixels).logits
        keep_hidden(module, range(half))
        assert torch.allclose(module(pixels).logits, expected, atol=1e-5)
        again = load_module(save_module(module, tmp_path / "narrow"))
        assert torch.allclose(again(pixels).logits, expected, atol=1e-5)


def test_a_narrower_vision_transformer_is_fitted_distilled_and_exported(tmp_path: Path) -> None:
    candidate, context = opened("ViT", tmp_path)
    stage = stage_class("prune.structured")(hidden=0.4, heads=0.25, samples=12)
    made = stage.apply(candidate, context)
    decided = made.steps[-1].decisions
    assert (decided["hidden"], decided["hidden_before"]) == (16, 32)
    beside = replace(context, folder=tmp_path / "distilled", teacher=candidate)
    healed = stage_class("distil")(epochs=1, batch_size=4).apply(made, beside)
    beside = replace(context, folder=tmp_path / "exported")
    exported = stage_class("export")(exporter="dynamo").apply(healed, beside)
    assert exported.steps[-1].decisions["parity"]["max_abs_difference"] < 1e-4


def test_a_model_without_a_description_and_one_without_a_processor_are_refused(
    tmp_path: Path,
) -> None:
    seen, context = opened("ViT", tmp_path / "vit")
    with pytest.raises(EdgeCompressError, match="read no text"):
        stage_class("factorize")(embedding=16).apply(seen, context)
    candidate, context = opened("ResNet", tmp_path)
    with pytest.raises(EdgeCompressError, match="models of the type 'resnet'"):
        stage_class("prune.structured")(heads=0.5).apply(candidate, context)
    bare = write_model("ViT", tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(EdgeCompressError, match=r"config\.json is missing, which says"):
        import_teacher(str(bare), "image-classification", COLOURS, tmp_path / "made")


def test_classes_that_a_head_knows_need_not_be_in_train(tmp_path: Path) -> None:
    """Few images calibrate a model of a thousand classes; a new head learns only what it sees."""
    write_model("ResNet", tmp_path / "model")
    for seed, split in enumerate(("train", "dev", "test")):
        write_folder(tmp_path / split, 2, seed)
    shutil.rmtree(tmp_path / "train" / "red")
    recipe = {
        "name": "colours", "task": "image-classification", "model": "model",
        "data": {"format": "images", "root": ".", "train": "train", "validation": "dev",
                 "test": "test"},
        "stages": ["export"],
    }  # fmt: skip
    for labels, code in ((None, 0), ("new", 2)):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "labels": labels}))
        done = in_process("check", tmp_path / "recipe.yaml")
        assert done.returncode == code, done.stderr
    assert "label 'red' of the" in done.stderr


def test_a_recipe_cuts_distils_and_quantizes_a_classifier(tmp_path: Path) -> None:
    write_model("ResNet", tmp_path / "model")
    for seed, split in enumerate(("train", "dev", "test")):
        write_folder(tmp_path / split, 12 if split == "train" else 4, seed)
    recipe = {
        "name": "colours", "task": "image-classification",
        "teacher": {"model": "model", "finetune": {"epochs": 3, "learning_rate": 1e-2}},
        "data": {"format": "images", "root": ".", "train": "train", "validation": "dev",
                 "test": "test"},
        "stages": [{"prune.channels": {"remove": 0.3}},
                   {"distil": {"epochs": 3, "learning_rate": 1e-2}}, "export", "quantize.static"],
        "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "min_count": 20,
                    "cold_starts": 0, "attempts": 1},
        "budget": {"accuracy": {"max_drop": 0.2}},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    store = str(tmp_path / "store")
    done = in_process("run", tmp_path / "recipe.yaml", "-o", tmp_path / "out",
                      EDGECOMPRESS_STORE=store)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = in_process("predict", tmp_path / "out" / "bundle", tmp_path / "test" / "red" / "0.png")
    assert said.stdout.startswith("red")
