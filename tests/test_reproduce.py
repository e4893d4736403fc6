"""A bundle made twice from scratch, and `reproduce`: the same bytes, or what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import labelled_texts

from edgecompress.bundle import write_bundle
from edgecompress.bundle.digests import CORE_LIST
from edgecompress.cli.main import cli
from edgecompress.comparison.side import read_side
from edgecompress.engine.opening import open_start
from edgecompress.engine.origin import find_origin
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.reproduce import MARKER, _clean, reproduce
from edgecompress.engine.reproduction import Reproduction
from edgecompress.engine.same_inputs import Inputs
from edgecompress.engine.splits import read_splits
from edgecompress.errors import DataError, EdgeCompressError, StageError
from edgecompress.store import Store
from edgecompress.values import Candidate, Measurement, Step, file_digest
from edgecompress.writing import HOLDER, PREFIX

RECIPE = """\
name: again
task: text-classification
teacher:
  new: {layers: 2, hidden_size: 32, heads: 4, intermediate_size: 64, vocabulary: 120}
  finetune: {epochs: 6, learning_rate: 3.0e-3, batch_size: 8}
data:
  {format: tsv, root: texts, train: [train.tsv], validation: [dev.tsv], test: [test.tsv]}
seed: 3
stages:
  - prune.structured: {heads: 0.25, ffn: 0.25}
  - distil: {epochs: 1, batch_size: 8}
  - export
  - quantize.static: {calibration: mine.yaml}
profile: {min_duration_ms: 100, max_warmup_ms: 20, min_count: 20, cold_starts: 0, attempts: 1}
"""
FUSED = (
    "stages=[prune.layers: {keep: 1}, export: {}, fuse: {fusions: [gelu]}, quantize.dynamic: {}]"
)


def write_project(folder: Path, data: str = "texts") -> Path:
    """Write recipe, data and a calibration set into `folder`, and give the recipe."""
    (folder / data).mkdir(parents=True)
    for number, (name, count) in enumerate({"train": 96, "dev": 24, "test": 24}.items()):
        examples = labelled_texts(count, seed=number)
        lines = [f"{one.inputs['text']}\t{one.target}" for one in examples]
        text = "\n".join(["text\tlabel", *lines]) + "\n"
        (folder / data / f"{name}.tsv").write_text(text, encoding="utf-8")
    (folder / "mine.yaml").write_text("{name: mine, choose: length, samples: 12}\n")
    recipe = folder / "again.yaml"
    recipe.write_text(RECIPE.replace("root: texts", f"root: {data}"))
    return recipe


def run_from_scratch(folder: Path, data: str, hash_seed: str, threads: str, zone: str) -> Path:
    """Run the recipe in a process of its own; give the bundle."""
    recipe = write_project(folder, data)
    for file in folder.rglob("*"):
        os.utime(file, (86_400.0 * int(hash_seed), 86_400.0 * int(hash_seed)))
    setting = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads, "TZ": zone}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "edgecompress", "run", recipe, "--deterministic"),
            *("-o", folder / "out", "--store", folder / "store"),
        ],
        env={**os.environ, **setting},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "out" / "bundle"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def first(place: Path) -> Path:
    return run_from_scratch(place / "one", "texts", "1", "1", "Africa/Nairobi")


@pytest.fixture(scope="module")
def fused(place: Path, first: Path) -> Path:
    """A bundle of a chain that measures to decide, made as `run` makes the winner's.

    Its teacher is in the first run's store. What else a run measures is left out, for time.
    """
    recipe = load_recipe(place / "one" / "again.yaml", ("threads=1", FUSED))
    splits, test = read_splits(recipe)
    pipeline = Pipeline(recipe, Store(place / "one" / "store"), splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "time", the_later_the_faster)
        made = pipeline.run_chain(recipe.chains[0], open_start(pipeline)).candidate
    parts = {"train": splits.train, "validation": splits.validation, "test": test}
    counts = {name: len(examples) for name, examples in parts.items()}
    found = asdict(find_origin(recipe, counts, pipeline.teacher, made))
    write_bundle(place / "fused", made, found.pop("recipe"), found.pop("versions"), **found)
    return place / "fused"


def the_later_the_faster(_: Pipeline, candidates: Sequence[Candidate]) -> list[tuple]:
    """Stand for the timings by which `fuse` decides; the real ones are other ones every time."""
    return [
        (Measurement("latency_p50", 10.0 - at, "ms"), Measurement("speedup", 1.0 + at, "x"))
        for at in range(len(candidates))
    ]


def no_measuring(_: Pipeline, candidates: Sequence[Candidate]) -> list[tuple]:
    raise AssertionError("what was decided by measuring must be replayed")


def inputs(place: Path, *settings: str) -> Inputs:
    return Inputs(data_root=place / "one" / "texts", settings=settings)


def tampered(bundle: Path, folder: Path, change: object) -> Path:
    """Copy a bundle whose manifest `change` alters, with a list that fits."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)  # type: ignore[operator]
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text)
    names = [line.split("  ", 1)[1] for line in (folder / CORE_LIST).read_text().splitlines()]
    lines = "".join(f"{file_digest(folder / name)}  {name}\n" for name in names)
    (folder / CORE_LIST).write_text(lines)
    return folder


def test_a_core_made_twice_from_scratch_is_the_same_bytes(place: Path, first: Path) -> None:
    """Other directory, other name of the data's folder, hash seed, day, time zone and threads."""
    second = run_from_scratch(place / "far" / "two", "elsewhere", "2", "2", "America/Lima")
    assert (first / CORE_LIST).read_text() == (second / CORE_LIST).read_text()
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()
    text = (first / "manifest.json").read_text()
    assert json.loads(text)["recipe"]["threads"] == 1
    assert str(place) not in text


def test_reproduce_says_that_the_bytes_are_the_same(
    place: Path, fused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `fuse` decided by measuring is replayed: measuring again might decide otherwise."""
    monkeypatch.setattr(Pipeline, "time", no_measuring)
    found = reproduce(fused, inputs(place), output=place / "made")
    assert found.equal, found.to_json()
    assert found.notes == ()
    assert "model.onnx" in found.unchanged
    assert found.model is None
    assert found.scores == ()
    assert (place / "made" / CORE_LIST).read_bytes() == (fused / CORE_LIST).read_bytes()


def test_a_decision_that_was_changed_is_found_with_numbers(place: Path, fused: Path) -> None:
    def other(manifest: dict) -> None:
        step = next(step for step in manifest["steps"] if step["stage"] == "fuse")
        now = step["decisions"]["fusions"]
        step["decisions"]["fusions"] = [] if now else ["gelu"]

    changed = tampered(fused, place / "tampered", other)
    found = reproduce(changed, inputs(place))
    assert not found.equal
    assert found.model is not None
    assert not found.model.same_graph
    assert found.model.operators
    assert {score.split for score in found.scores} == {"validation", "test"}


def test_another_seed_is_different_and_said_so(place: Path, fused: Path) -> None:
    root = str(place / "one" / "texts")
    done = CliRunner().invoke(
        cli, ["reproduce", str(fused), "--data-root", root, "--set", "seed=4"]
    )
    assert done.exit_code == 1, done.output
    said = done.stdout
    assert said.index("note: the recipe is not as it was") < said.index("different:")
    assert "model.onnx" in said
    assert "Weights:" in said
    assert "validation" in said
    assert "answers that differ" in said


def test_other_versions_are_named(place: Path, fused: Path) -> None:
    """Equal weights and answers, but made by another library: different, and nothing is asked."""

    def older(manifest: dict) -> None:
        manifest["versions"]["onnxruntime"] = "1.0.0"

    found = reproduce(tampered(fused, place / "older", older), inputs(place))
    assert isinstance(found, Reproduction)
    assert any(note.startswith("onnxruntime: was 1.0.0, is ") for note in found.notes)
    assert not found.equal
    assert "model.onnx" in found.unchanged
    assert found.model is None


def test_inputs_that_differ_are_refused_before_anything_runs(
    place: Path, first: Path, tmp_path: Path
) -> None:
    calibration = f"stages.quantize.static.calibration={place / 'one' / 'mine.yaml'}"
    with pytest.raises(DataError, match="--data-root"):
        reproduce(first, Inputs(tmp_path, settings=(calibration,)))

    shutil.copytree(place / "one" / "texts", tmp_path / "texts")
    file = tmp_path / "texts" / "train.tsv"
    was = file_digest(file)
    file.write_text(file.read_text() + "jiya\tplace\n")
    with pytest.raises(DataError, match=f"{was} and is {file_digest(file)}"):
        reproduce(first, Inputs(tmp_path / "texts", settings=(calibration,)))

    mine = tmp_path / "mine.yaml"
    mine.write_text("{name: mine, choose: length, samples: 13}\n")
    changed = f"stages.quantize.static.calibration={mine}"
    with pytest.raises(DataError, match="calibration set 'mine' is another one"):
        reproduce(first, inputs(place, changed))


def test_a_store_that_holds_something_is_refused(place: Path, fused: Path) -> None:
    with pytest.raises(EdgeCompressError, match="not empty"):
        reproduce(fused, inputs(place), store=place / "one" / "store")


def test_a_store_that_a_killed_one_had_just_made_is_taken(first: Path, tmp_path: Path) -> None:
    """Killed before its marker was there, whole: nothing of it stands in the way of the next."""
    left = tmp_path / "store" / f"{PREFIX}{'0' * 12}-abcdefgh"
    left.mkdir(parents=True)
    (left / HOLDER).write_text("{}")
    (left / "made").write_text("Made by")
    store = _clean(tmp_path / "store", read_side(first))
    assert [path.name for path in store.iterdir()] == [MARKER]
    assert _clean(store, read_side(first)) == store
    (store / MARKER).write_text("another's")
    with pytest.raises(EdgeCompressError, match="not empty"):
        _clean(store, read_side(first))


def test_a_choice_that_the_recipe_rules_out_is_refused(place: Path, fused: Path) -> None:
    def invented(manifest: dict) -> None:
        step = next(step for step in manifest["steps"] if step["stage"] == "fuse")
        step["decisions"]["disabled_optimizers"] = ["MatMulAddFusion"]

    bundle = tampered(fused, place / "invented", invented)
    with pytest.raises(StageError, match="rules out"):
        reproduce(bundle, inputs(place))


def test_what_only_the_bundle_names_is_not_fetched_unasked(
    classifier: Candidate, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """A hub's model, and nobody at a terminal: it is refused before anything is fetched."""
    write_project(tmp_path)
    names = {"train": ["train.tsv"], "validation": ["dev.tsv"], "test": ["test.tsv"]}
    recipe = {
        "name": "hub",
        "task": "text-classification",
        "teacher": {"model": "someone/a-model"},
        "data": {"format": "tsv", "root": "texts", **names},
        "stages": ["export"],
    }
    candidate = replace(classifier, steps=(Step("teacher", {}), Step("export", {})))
    bundle, root = make_bundle(candidate, recipe=recipe), tmp_path / "texts"
    done = CliRunner().invoke(cli, ["reproduce", str(bundle), "--data-root", str(root)])
    assert isinstance(done.exception, EdgeCompressError)
    said = str(done.exception)
    assert "'someone/a-model'" in said
    assert "--yes" in said
    assert "--teacher" in said

    asked: list[str] = []
    with pytest.raises(EdgeCompressError, match="--yes"):
        reproduce(bundle, Inputs(root), fetch=asked.extend)  # type: ignore[arg-type]
    assert asked == ["someone/a-model"]
    recipe["data"] = {"format": "datasets", "hub": "someone/texts"}
    fetched = make_bundle(candidate, "fetched", recipe=recipe)
    asked.clear()
    with pytest.raises(EdgeCompressError, match="--data-root"):
        reproduce(fetched, Inputs(teacher=str(tmp_path)), fetch=asked.extend)  # type: ignore[arg-type]
    assert asked == ["someone/texts"]
    with pytest.raises(EdgeCompressError) as named:  # what a person names is not asked about
        reproduce(bundle, Inputs(root, teacher=str(tmp_path / "nosuch")))
    assert "--yes" not in str(named.value)
