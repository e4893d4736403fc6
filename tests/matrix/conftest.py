"""A recipe with a matrix on tiny data, and a teacher that is ready, as a directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import tagged_examples, tiny_teacher

from edgecompress.texts import tags_of, words_of
from edgecompress.values import Example

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
profile: {min_duration_ms: 100, warmup_ms: 1, max_warmup_ms: 5, min_count: 30, cold_starts: 0,
          attempts: 1}
"""


CHEAP = """\
name: cheap
matrix:
  language: [one, two]
  seed: [1, 2]
  licence: MIT
model: "{language}.onnx"
licences: {model: "{licence}"}
stages: [quantize.dynamic]
profile: {min_duration_ms: 5, warmup_ms: 1, max_warmup_ms: 5, min_count: 30, cold_starts: 0,
          attempts: 1}
"""


@pytest.fixture
def cheap(tmp_path: Path) -> Path:
    """A folder with a recipe whose cells take seconds: one small ONNX file per language."""
    for language in ("one", "two"):
        write_onnx(tmp_path / f"{language}.onnx")
    (tmp_path / "cheap.yaml").write_text(CHEAP)
    return tmp_path


def write_onnx(file: Path) -> None:
    """Write a graph of one matrix product."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [shape], [out], [weight]
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(file))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: model and tokenizer in one folder."""
    folder = tmp_path_factory.mktemp("teacher")
    tiny_teacher(folder, tagged_examples(60), "token-classification", layers=2)
    for part in ("model", "preprocessor"):
        shutil.copytree(folder / part, folder / "whole", dirs_exist_ok=True)
    return folder / "whole"


@pytest.fixture
def place(tmp_path: Path, teacher: Path) -> Path:
    """A folder with the recipe, its data and a teacher per language."""
    for language in ("one", "two"):
        shutil.copytree(teacher, tmp_path / f"model-{language}")
        (tmp_path / language).mkdir()
        for seed, split in enumerate(("train", "dev", "test")):
            write_conll(tmp_path / language / f"{split}.txt", tagged_examples(12, seed))
    (tmp_path / "mini.yaml").write_text(RECIPE)
    return tmp_path


def write_conll(file: Path, examples: Iterable[Example]) -> None:
    """Write sentences as words and tags."""
    sentences = [
        "".join(f"{word} {tag}\n" for word, tag in zip(words_of(one), tags_of(one), strict=True))
        for one in examples
    ]
    file.write_text("\n".join(sentences))
