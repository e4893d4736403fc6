"""A kind of model that nobody here knows, as docs/extending.md adds it, through a whole recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from extending import blocks, files, module
from serving import running

STEPS = 12


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
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and a smaller student that nobody has trained."""
    folder = tmp_path_factory.mktemp("models")
    brought = module("numbers_model")
    for name, width in (("teacher", 48), ("student", 32)):
        torch.manual_seed(width)
        config = brought.ReadingsConfig(width=width, id2label={0: "first", 1: "second"})
        brought.ReadingsForNumberSequences(config).save_pretrained(folder / name)
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


@pytest.fixture(scope="module")
def made(package, models, data, tmp_path_factory):
    """The folder where the page's recipe was checked and run."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "numbers.yaml"
    (text,) = blocks("yaml")
    places = {"TEACHER": models / "teacher", "STUDENT": models / "student", "DATA": data}
    for name, place in places.items():
        text = text.replace(name, str(place))
    recipe.write_text(text)
    checked = run("check", recipe, package=package, folder=folder)
    assert checked.returncode == 0, checked.stderr
    done = run("run", recipe, "-o", "out", package=package, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_recipe_from_the_teacher_to_the_report(made):
    result = json.loads((made / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    best = rows[result["winner"]]
    found = {
        (m["metric"], m["split"]): m["value"] for m in best["measurements"] if m["slice"] is None
    }
    assert found["accuracy", "test"] > 0.8
    stages = [step["stage"] for step in best["steps"]]
    assert stages[1:6] == ["distil", "prune.magnitude", "finetune", "export", "strip.notes"]
    assert best["steps"][3]["decisions"]["kept_zeros"]["sparsity"] > 0.29
    assert (made / "out" / "bundle" / "manifest.json").is_file()
    page = (made / "out" / "report.html").read_text()
    assert "number-sequences" in page and "always the most frequent class" in page
    card = (made / "out" / "bundle" / "evidence" / "README.md").read_text()
    assert "gives a sequence of readings one class" in card


SECOND, FIRST = [[0.0, 2.5], [0.1, 1.9], [-0.2, 2.2]], [[2.5, 0.0]] * 9


def test_a_bundle_answers_on_the_command_line_and_from_python(made, package):
    question = json.dumps({"values": SECOND})
    said = run("predict", "out/bundle", question, "--json", package=package, folder=made)
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout)
    assert answer["label"] == "second" and set(answer["scores"]) == {"first", "second"}
    lines = made / "asked.txt"
    lines.write_text(
        "\n".join(json.dumps({"values": v, "id": i}) for i, v in enumerate((FIRST, SECOND)))
    )
    said = run("predict", "out/bundle", "--input", lines, "--json", package=package, folder=made)
    assert [json.loads(line)["label"] for line in said.stdout.splitlines()] == ["first", "second"]
    wrong = run("predict", "out/bundle", "up or down", package=package, folder=made)
    assert wrong.returncode == 2 and "not JSON" in wrong.stderr and "Traceback" not in wrong.stderr
    code = f"""
import edgecompress
print(edgecompress.load("out/bundle").answer({SECOND}).label)
print([one.label for one in edgecompress.predict("out/bundle", [{FIRST}, {{"values": {SECOND}}}])])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=made, env={**os.environ, "PYTHONPATH": str(package)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["second", "['first', 'second']"], done.stderr


def test_a_bundle_answers_over_http(made, package, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(package))
    with running(made / "out" / "bundle") as server:
        assert server.predict(values=SECOND).json["label"] == "second"
        refused = server.predict(values=[[1.0]])
        assert refused.status == 422 and "values must be a list of pairs" in refused.json["error"]
        several = server.predict(sequences=[FIRST, SECOND]).json["answers"]
        assert [one["label"] for one in several] == ["first", "second"]


def test_two_bundles_are_compared(made, package):
    """Another bundle of the same model, whose classes have changed places."""
    code = """
from dataclasses import replace
from pathlib import Path
from edgecompress.bundle import load_bundle, write_bundle
turned = replace(load_bundle(Path("out/bundle")), labels=("second", "first"))
write_bundle(Path("turned"), turned, {"name": "turned"}, {})
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=made, env={**os.environ, "PYTHONPATH": str(package)}, check=True)
    command = ("bundle", "diff", "out/bundle", "turned", "--recipe", "numbers.yaml", "--json")
    found = run(*command, package=package, folder=made)
    assert found.returncode == 0, found.stderr
    answers = json.loads(found.stdout)["answers"]
    assert answers["asked"] == len(answers["flips"]) == 40


def test_the_checks_of_the_page(package, data):
    code = f"from check_numbers import check; check({str(data)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
