"""A classifier, its data and its export, made once for all tests of ``compress``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import in_process
from compressing import MADE, taught, write_csv
from helpers import labelled_texts

from edgecompress.texts import label_of, text_of
from edgecompress.values import Example


@pytest.fixture(scope="session")
def examples() -> tuple[Example, ...]:
    return labelled_texts(MADE)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, examples) -> Path:
    return taught(tmp_path_factory.mktemp("classifier"), "text-classification", examples)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory, examples) -> Path:
    rows = [{"no": n, "headline": text_of(one), "category": label_of(one)}
            for n, one in enumerate(examples)]  # fmt: skip
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", rows)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def exported(classifier, store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Optimum writes it, and as sentence-transformers and the hub have it."""
    place = tmp_path_factory.mktemp("exported")
    done = in_process("export", classifier, "-o", place / "graph", "--store", store)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "graph" / "model", place / "folder" / "onnx")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(classifier / name, place / "folder" / name)
    return place / "folder"
