"""What a manifest says of its inputs may come from a stranger."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecompress.bundle import load_manifest
from edgecompress.bundle.manifest import Manifest
from edgecompress.engine.recipe import Recipe, load_recipe
from edgecompress.engine.same_inputs import check_inputs
from edgecompress.errors import BundleError, DataError
from edgecompress.values import Candidate, file_digest

RECIPE = """\
name: again
task: text-classification
teacher: {model: teacher}
data: {format: tsv, root: ., train: [train.tsv], validation: [dev.tsv], test: [test.tsv]}
stages: [export]
"""
STRANGE: tuple[Any, ...] = (None, True, 7, -0.5, "", "a\nb", [], {}, [[]], [None], {"x": {"y": 1}})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(f"text\tlabel\n{name}\tgood\nleo\tbad\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load_recipe(tmp_path / "recipe.yaml")


@pytest.fixture
def manifest(classifier: Candidate, make_bundle: Callable[..., Path], recipe: Recipe) -> Manifest:
    assert recipe.data is not None
    file = recipe.data.files("test")[0]
    known = {
        "data": {
            "test": {
                "digest": recipe.data.digest("test"),
                "files": [{"name": file.name, "sha256": file_digest(file)}],
            }
        },
        "teacher": {"files": []},
        "calibration": [],
    }
    return load_manifest(make_bundle(classifier, inputs=known))


def test_the_same_inputs_pass_and_others_are_named(recipe: Recipe, manifest: Manifest) -> None:
    check_inputs(recipe, (), manifest)
    other = copy.deepcopy(manifest.inputs)
    other["data"]["test"]["files"][0]["sha256"] = "0" * 64
    with pytest.raises(DataError, match=r"test\.tsv: is not the file that the bundle was made"):
        check_inputs(recipe, (), replace(manifest, inputs=other))


@pytest.mark.parametrize(
    "path",
    [
        ("data",), ("data", "test"), ("data", "test", "digest"), ("data", "test", "files"),
        ("data", "test", "files", 0), ("data", "test", "files", 0, "sha256"), ("data", "other"),
        ("teacher",), ("teacher", "files"), ("calibration",),
    ],
)  # fmt: skip
def test_what_no_manifest_says_is_an_error_of_ours(
    path: tuple[Any, ...], recipe: Recipe, manifest: Manifest
) -> None:
    refused = 0
    for value in STRANGE:
        known = copy.deepcopy(manifest.inputs)
        place: Any = known
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        try:
            check_inputs(recipe, (), replace(manifest, inputs=known))
        except BundleError as error:
            assert "inputs: not as edgecompress writes it" in str(error)
            refused += 1
        except DataError:  # another digest
            refused += 1
    assert refused >= 5
