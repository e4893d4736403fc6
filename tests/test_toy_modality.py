"""A kind of model that nobody here knows, as docs/extending.md adds it, through a whole recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from extending import blocks, files
from onnx import TensorProto, helper, numpy_helper

from edgecompress.values import Candidate, OnnxModel

STEPS, HIDDEN = 12, 64


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the page's files as an installer would, with the entry points of its pyproject."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "toy_numbers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-numbers\nVersion: 1.0\n")
    (points,) = (tomllib.loads(block) for block in blocks("toml"))
    groups = points["project"]["entry-points"]
    lines = [
        line
        for group, named in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in named.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for name, code in files().items():
        (folder / name).write_text(code)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A candidate whose graph tells by its mean which of two channels is larger."""
    folder = tmp_path_factory.mktemp("numbers")
    random = np.random.default_rng(0)
    first = np.repeat([[1.0], [-1.0]], HIDDEN, 1) * random.uniform(0.5, 1, (1, HIDDEN))
    second = np.stack((np.ones(HIDDEN), -np.ones(HIDDEN)), axis=-1) / 8
    weights = {"w1": first.astype(np.float32), "w2": second.astype(np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["values", "w1"], ["hidden"]),
            helper.make_node("ReduceMean", ["hidden", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "w2"], ["logits"]),
        ],
        "numbers",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", "steps", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            *(numpy_helper.from_array(value, name) for name, value in weights.items()),
            numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    (folder / "model").mkdir()
    file = folder / "model" / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    Candidate(OnnxModel(file), None, "number-sequences", ("first", "second")).save(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readings")
    random = np.random.default_rng(1)
    for name, count in (("train", 64), ("dev", 40), ("test", 40)):
        lines = []
        for _ in range(count):
            label = ("first", "second")[int(random.integers(2))]
            values = random.normal(size=(STEPS, 2))
            values[:, ("first", "second").index(label)] += 1.5
            lines.append(f"{label} {' '.join(f'{one:.3f}' for one in values.ravel())}")
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(*arguments: object, package: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecompress", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(package), "EDGECOMPRESS_STORE": str(folder / "store")},
    )


def test_a_recipe_from_the_graph_to_the_report(package, model, data, tmp_path):
    recipe = tmp_path / "numbers.yaml"
    (text,) = blocks("yaml")
    recipe.write_text(text.replace("MODEL", str(model)).replace("DATA", str(data)))
    checked = run("check", recipe, package=package, folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    done = run("run", recipe, "-o", "out", package=package, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    best = rows[result["winner"]]
    found = {
        (m["metric"], m["split"]): m["value"] for m in best["measurements"] if m["slice"] is None
    }
    assert found["accuracy", "test"] > 0.8
    assert best["steps"][0]["stage"] == "strip.notes"
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "number-sequences" in page and "always the most frequent class" in page


def test_the_checks_of_the_page(package, data):
    code = f"from check_numbers import check; check({str(data)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
