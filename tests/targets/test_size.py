"""Sizes: every file of a model, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard
from safetensors.numpy import save_file

from edgecompress.errors import DataError
from edgecompress.targets.size import compressed_size, model_files, parameters, size_measurements
from edgecompress.values import Candidate, OnnxModel, TorchModel


def test_external_data_counts(classifier: Candidate) -> None:
    files = model_files(classifier.model)
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"]
    found = {m.metric: m for m in size_measurements(classifier.model, classifier.model)}
    assert found["size"].value == sum(file.stat().st_size for file in files)
    assert found["compression"].value == 1
    assert found["size"].target is None


def test_missing_external_data(classifier: Candidate, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(model_files(classifier.model)[0].read_bytes())
    with pytest.raises(DataError, match=r"model\.onnx\.data"):
        model_files(OnnxModel(copy))


def test_a_foreign_folder_is_not_counted(tagger: Candidate, tmp_path: Path) -> None:
    copy = tmp_path / "net.onnx"
    copy.write_bytes(model_files(tagger.model)[0].read_bytes())
    (tmp_path / "holiday.jpg").write_bytes(b"0" * 999)
    assert model_files(OnnxModel(copy)) == (copy,)


def test_parameters_of_a_graph(tagger: Candidate) -> None:
    pieces, tags = 8, 5
    assert parameters(tagger.model) == pieces * tags + tags * tags


def test_safetensors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="weights are missing"):
        model_files(TorchModel(tmp_path))
    tensors = {"w": np.zeros((3, 4), np.float32), "ids": np.zeros((1, 512), np.int64)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert parameters(TorchModel(tmp_path)) == 12


def test_a_download_is_one_zstandard_stream(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    chance = np.random.default_rng(0)
    for file in files:
        file.write_bytes(chance.integers(0, 9, 300_000, dtype=np.uint8).tobytes())
    both = b"".join(file.read_bytes() for file in files)
    size = compressed_size(files)
    assert size == compressed_size(files)
    assert size == pytest.approx(len(zstandard.compress(both, level=10)), rel=0.01)
