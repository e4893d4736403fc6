"""Shapes that are no encoder of text: a vision transformer and a decoder, exported by Optimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import small_context

from edgecompress.models.session import open_session
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.surgery.onnx_export import export_with_optimum, optimum_is_installed
from edgecompress.values import Candidate, OnnxModel

RANDOM = np.random.default_rng(0)


def vision() -> tuple[object, str, dict[str, np.ndarray]]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=5,
        initializer_range=0.2,
    )
    pixels = RANDOM.standard_normal((12, 3, 32, 32)).astype(np.float32)
    return ViTForImageClassification(config), "image-classification", {"pixel_values": pixels}


def decoder() -> tuple[object, str, dict[str, np.ndarray]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=32, vocab_size=50, initializer_range=0.2
    )
    ids = RANDOM.integers(1, 50, (12, 16))
    mask = (np.arange(16) < RANDOM.integers(4, 17, (12, 1))).astype(np.int64)
    place = np.broadcast_to(np.arange(16), (12, 16))
    data = {"input_ids": ids, "attention_mask": mask, "position_ids": place}
    return GPT2LMHeadModel(config), "text-generation", data


def write_onnx(module, task: str, data: dict[str, np.ndarray], path: Path, exporter: str) -> None:
    import torch

    if exporter == "optimum":
        export_with_optimum(module, task, path, 17)
        return
    module.config.use_cache = False
    example = {name: torch.from_numpy(np.array(array[:2])) for name, array in data.items()}
    free = {0: "batch"} if "pixel_values" in data else {0: "batch", 1: "length"}
    axes = dict.fromkeys(data, free)
    export_module(module, Traced(example, axes, ("logits",)), path, 18)


EXPORTERS = ("dynamo", *(["optimum"] if optimum_is_installed() else []))


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(("shape", "linears"), [(vision, 1 + 2 * 6 + 1), (decoder, 2 * 4 + 1)])
def test_all_its_layers_run_as_int8(shape, linears: int, exporter: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module, task, data = shape()
    module.eval()
    write_onnx(module, task, data, tmp_path / "onnx" / "model.onnx", exporter)
    candidate = Candidate(OnnxModel(tmp_path / "onnx" / "model.onnx"))
    np.savez(tmp_path / "calib.npz", **data)
    feed = {name: array[:1] for name, array in data.items()}
    expected = open_session(candidate.model).run(None, feed)[0]
    made = {
        "static": Static(inputs=str(tmp_path / "calib.npz")),
        "dynamic": Dynamic(),
    }
    for name, stage in made.items():
        result = stage.apply(candidate, small_context(tmp_path / name))
        model, decided = result.model, result.steps[-1].decisions
        assert "unproven" not in decided  # made-up images are given the size that fits
        found = coverage(model, [feed])
        assert len(decided["int8_linears"]) == len(found.int8_linears)
        left = [part.op for part in found.fp32_linears]
        assert left == (["Conv"] if name == "dynamic" and shape is vision else [])
        assert len(found.int8_linears) == linears - len(left)
        given = open_session(model).run(None, feed)[0]
        assert np.abs(expected - given).mean() < 0.1 * expected.std()
