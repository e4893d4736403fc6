"""Where a bundle comes from, and a core made twice from nothing: the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from helpers import tagged_examples

from edgecompress.bundle import load_manifest, write_bundle
from edgecompress.bundle.packing import pack_bundle
from edgecompress.engine.opening import open_start
from edgecompress.engine.origin import find_origin, package_licence
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.splits import read_splits
from edgecompress.provenance import package_digest
from edgecompress.store import Store
from edgecompress.texts import tags_of, words_of
from edgecompress.values import Candidate, file_digest

RECIPE = """\
name: twice
task: token-classification
teacher:
  new: {layers: 2, hidden_size: 32, heads: 2, intermediate_size: 64, vocabulary: 120}
  finetune: {epochs: 1, learning_rate: 3.0e-3, batch_size: 16}
data:
  format: conll
  root: ROOT
  train: [hau/train.txt, swa/train.txt]
  validation: dev.txt
  test: test.txt
licences: {data: CC-BY-4.0}
seed: 3
threads: 1
stages:
  - prune.structured: {heads: 0.5, ffn: 0.5}
  - distil: {epochs: 1, batch_size: 16}
  - export
  - quantize.static: {calibration: quickstart, samples: 12}
"""


def write_data(root: Path) -> None:
    files = {"hau/train.txt": 60, "swa/train.txt": 40, "dev.txt": 30, "test.txt": 20}
    for seed, (name, count) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(
            "\n\n".join(
                "\n".join(
                    f"{word} {tag}" for word, tag in zip(words_of(e), tags_of(e), strict=True)
                )
                for e in tagged_examples(count, seed)
            )
            + "\n"
        )


def made(place: Path, root: str) -> tuple[Path, Store]:
    """Make a bundle from nothing below `place`, with the data in the folder `root` there."""
    write_data(place / root)
    (place / "twice.yaml").write_text(RECIPE.replace("ROOT", root))
    recipe = load_recipe(place / "twice.yaml")
    splits, test = read_splits(recipe)
    store = Store(place / "store")
    pipeline = Pipeline(recipe, store, splits)
    try:
        winner = pipeline.run_chain(recipe.chains[0], open_start(pipeline)).candidate
    finally:
        pipeline.close()
    counts = {"train": len(splits.train), "validation": len(splits.validation), "test": len(test)}
    origin = find_origin(recipe, counts, pipeline.teacher, winner)
    write_bundle(
        place / "bundle",
        winner,
        origin.recipe,
        origin.versions,
        inputs=origin.inputs,
        licences=origin.licences,
        code=origin.code,
        platform=origin.platform,
        packages=origin.packages,
    )
    return place / "bundle", store


def test_a_core_made_twice_from_nothing_is_the_same_bytes(tmp_path: Path) -> None:
    first, store = made(tmp_path / "here", "data")
    shutil.rmtree(tmp_path / "here" / "data")
    second, _ = made(tmp_path / "over there", "the data")
    assert (first / "core.sha256").read_bytes() == (second / "core.sha256").read_bytes()
    archives = [pack_bundle(bundle, core=True).read_bytes() for bundle in (first, second)]
    assert archives[0] == archives[1]

    manifest = load_manifest(first)
    stages = ["teacher", "finetune", "prune.structured", "distil", "export", "quantize.static"]
    assert [step.stage for step in manifest.steps] == stages
    for step in manifest.steps:
        assert store.path(step.key).is_dir(), step.stage
    train = manifest.inputs["data"]["train"]
    root = tmp_path / "over there" / "the data"
    assert train["examples"] == 100
    assert train["files"] == [
        {"name": name, "sha256": file_digest(root / name)}
        for name in ("hau/train.txt", "swa/train.txt")
    ]
    assert manifest.inputs["teacher"]["from"] == "new"
    assert [used["name"] for used in manifest.inputs["calibration"]] == ["quickstart"]
    assert manifest.licences["data"] == "CC-BY-4.0"
    assert manifest.licences["packages"]["onnxruntime"] == "MIT"
    assert manifest.code == {
        "version": manifest.versions["edgecompress"],
        "digest": package_digest(),
    }
    assert {"torch", "onnxruntime", "transformers"} <= set(manifest.versions)
    assert manifest.platform["machine"] and "cores" not in manifest.platform
    text = (first / "manifest.json").read_text()
    for place in (str(tmp_path), "over there", str(Path.home()), "seconds"):
        assert place not in text, place


def test_a_foreign_models_files_and_licence_are_recorded(
    tmp_path: Path, classifier: Candidate
) -> None:
    folder = tmp_path / "foreign"
    shutil.copytree(classifier.model.directory, folder)
    (folder / "README.md").write_text("---\nlanguage: sw\nlicense: apache-2.0\n---\n# A model\n")
    (tmp_path / "r.yaml").write_text(f"name: foreign\nmodel: {folder}/model.onnx\nstages: []\n")
    recipe = load_recipe(tmp_path / "r.yaml")
    found = find_origin(recipe, {}, None, classifier)
    assert found.inputs == {
        "model": {
            "from": "model.onnx",
            "files": [
                {"name": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
                for name in ("model.onnx", "model.onnx.data")
            ],
        }
    }
    assert found.licences["model"] == "apache-2.0"
    assert str(tmp_path) not in str(found)


def test_splits_that_were_drawn_are_recorded(classifier: Candidate, tmp_path: Path) -> None:
    rows = "".join(f"text {n},{'ab'[n % 2]},{n // 3}\n" for n in range(60))
    (tmp_path / "all.csv").write_text("text,label,author\n" + rows)
    (tmp_path / "recipe.yaml").write_text(
        "name: drawn\ntask: text-classification\nteacher: {model: nobody/nothing}\n"
        "data:\n  format: csv\n  root: .\n  train: all.csv\n"
        "  split: {validation: 0.2, test: 0.1, group: author, seed: 4}\nstages: [export]\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    found = find_origin(recipe, {"test": 6}, None, classifier)
    data = json.loads(json.dumps(found.inputs))["data"]
    assert data["test"]["drawn"] == {"share": 0.1, "seed": 4, "group": "author"}
    assert data["train"]["drawn"]["share"] == 0.7
    digest = file_digest(tmp_path / "all.csv")
    assert [data[split]["files"] for split in data] == [[{"name": "all.csv", "sha256": digest}]] * 3
    assert len({data[split]["digest"] for split in data}) == 3
    assert str(tmp_path) not in json.dumps(found.recipe)


def test_the_codes_digest_is_over_every_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small" / "inner").mkdir(parents=True)
    (tmp_path / "small" / "__init__.py").write_text("")
    (tmp_path / "small" / "inner" / "code.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = package_digest.__wrapped__("small")
    (tmp_path / "small" / "notes.txt").write_text("no code")
    assert package_digest.__wrapped__("small") == before
    (tmp_path / "small" / "inner" / "code.py").write_text("x = 2\n")
    assert package_digest.__wrapped__("small") != before
    (tmp_path / "small" / "inner" / "code.py").rename(tmp_path / "small" / "inner" / "other.py")
    assert package_digest.__wrapped__("small") != before


def test_packages_licences_are_spdx_where_that_is_known() -> None:
    assert package_licence("edgecompress") == "Apache-2.0"
    assert package_licence("protobuf") == "BSD-3-Clause"
    assert package_licence("no-such-package") is None
