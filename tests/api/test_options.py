"""What a function is told of data becomes a recipe's."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_models import several

from edgecompress.api.options import DataOptions
from edgecompress.errors import EdgeCompressError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return several(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("file", "given", "found"),
    [
        ("a.csv", None, "csv"),
        ("a.tsv", None, "tsv"),
        ("a.JSONL", None, "jsonl"),
        ("a.parquet", None, "parquet"),
        ("a.csv", "conll", "conll"),
    ],
)
def test_a_suffix_says_the_format(model: Path, file: str, given: str | None, found: str) -> None:
    options = DataOptions(train=file, format=given, task="text-classification")
    recipe = options.build(model)
    assert recipe.data is not None
    assert recipe.data.format == found


def test_another_suffix_says_none(model: Path) -> None:
    with pytest.raises(EdgeCompressError, match=r"a\.txt: its name does not say .* --format"):
        DataOptions(train="a.txt", task="text-classification").build(model)
