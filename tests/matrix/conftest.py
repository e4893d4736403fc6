"""A recipe with a matrix on tiny data, and a teacher that is ready, as a directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import PEOPLE, PLACES
from small_encoders import write_encoder

RECIPE = """\
name: mini
matrix:
  language: [one, two]
  seed: [1, 2]
  ffn: 0.5
task: token-classification
teacher: {model: "model-{language}"}
data:
  format: conll
  root: .
  train: ["{language}/train.txt"]
  validation: ["{language}/dev.txt"]
  test: ["{language}/test.txt"]
stages:
  - prune.structured: {heads: 0, ffn: "{ffn}"}
  - export
profile: {min_duration_ms: 5, warmup_ms: 1, max_warmup_ms: 5, min_count: 30, cold_starts: 0}
"""


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: model and tokenizer in one folder."""
    folder = tmp_path_factory.mktemp("teacher")
    write_encoder(folder, "Bert", "token-classification")
    for part in ("model", "preprocessor"):
        shutil.copytree(folder / part, folder / "whole", dirs_exist_ok=True)
    return folder / "whole"


@pytest.fixture
def place(tmp_path: Path, teacher: Path) -> Path:
    """A folder with the recipe, its data and a teacher per language."""
    for language in ("one", "two"):
        shutil.copytree(teacher, tmp_path / f"model-{language}")
        (tmp_path / language).mkdir()
        for split, person in zip(("train", "dev", "test"), PEOPLE, strict=False):
            sentences = [f"{person} B-PER\nje O\n{place} B-LOC\n" for place in PLACES[:4]]
            (tmp_path / language / f"{split}.txt").write_text("\n".join(sentences))
    (tmp_path / "mini.yaml").write_text(RECIPE)
    return tmp_path
