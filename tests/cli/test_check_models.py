"""`check` looks at the teacher too, without torch: its place, files, head and labels."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from helpers import labelled_texts

from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.matrix.run import check_cells
from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.single import single_recipe
from edgecompress.errors import EdgeCompressError, RecipeError
from edgecompress.texts import label_of, text_of

RECIPE = """\
name: x
task: text-classification
teacher: {model: sentiment}
data: {format: tsv, root: ., train: [train.tsv], validation: [dev.tsv], test: [test.tsv]}
stages: [export, quantize.dynamic]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    names = ("person", "place")
    write_checkpoint(folder / "sentiment", "Bert", "text-classification", names)
    write_checkpoint(folder / "unnamed", "Roberta", "text-classification")
    write_checkpoint(folder / "encoder", "Bert", "none")
    write_checkpoint(folder / "tagger", "Bert", "token-classification", names)
    for seed, name in enumerate(("train", "dev", "test")):
        lines = [f"{text_of(one)}\t{label_of(one)}" for one in labelled_texts(30, seed)]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def checked(place: Path, *settings: str) -> None:
    plan(load_recipe(place / "r.yaml", settings))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["teacher.model=sentimnt"], r"r\.yaml:3: teacher\.model: .*did you mean 'sentiment'"),
        (["teacher.model=./sentimnt"], "did you mean 'sentiment'"),
        (["teacher.model=/nowhere/at-all"], "there is no such directory"),
        (["teacher.model=unnamed/what"], "there is no such directory"),
        (["teacher.model=no such model!"], "there is no such directory"),
        (["teacher.model=train.tsv"], "must be a directory or a hub id"),
        (["teacher.model=."], r"no config\.json"),
        (["teacher.model=encoder"], r"nobody has trained the head.*BertModel.*finetune: \{\}"),
        (["teacher.model=tagger"], "nobody has trained the head.*BertForTokenClassification"),
        (["teacher.model=unnamed"], r"person, place .*LABEL_0, LABEL_1.*`labels: \{LABEL_0: …"),
        (["teacher.model=unnamed", "teacher.finetune={}"], "labels: new"),
        (["teacher.model=unnamed", "teacher.labels={LABEL_0: person}"], "LABEL_1"),
        (["teacher.model=unnamed", "teacher.labels={LABEL_7: person}"], "no class 'LABEL_7'"),
        (["teacher.model=unnamed", "teacher.labels=new"], "nobody has trained"),
        (["teacher.finetune={epoch: 3}"], r"teacher\.finetune\.epoch: .*did you mean 'epochs'"),
        (["teacher.finetune={epochs: 0}"], r"teacher\.finetune\.epochs"),
        (["teacher={new: {}}"], "a new teacher knows nothing"),
        (["model=encoder"], "model: nobody has trained .*chain 'quantize.dynamic'"),
        (["labels={LABEL_0: a}"], "write the teacher's under `teacher`"),
        (["model=unnamed", "labels={LABEL_0: place}"], "at the top of the recipe"),
        (["model=unnamed", "stages=[finetune, export]"], "labels: new"),
    ],
)  # fmt: skip
def test_what_would_stop_or_spoil_a_run_is_said_first(place: Path, settings: list[str], says: str):
    with pytest.raises(RecipeError, match=says) as told:
        checked(place, *settings)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["teacher.model=unnamed", "teacher.labels={LABEL_0: person, LABEL_1: place}"],
        ["teacher.model=unnamed", "teacher.labels=new", "teacher.finetune={epochs: 1}"],
        ["teacher.model=encoder", "teacher.finetune={}"],
        ["teacher={new: {}, finetune: {}}"],
        ["model=encoder", "stages=[prune.structured: {heads: 0.5}, finetune, export]"],
        ["model=encoder", "stages=[distil, export]"],
        ["model=unnamed", "labels={LABEL_0: place, LABEL_1: person}"],
        ["teacher.model=org-of-nobody/model-of-nobody"],
    ],
)  # fmt: skip
def test_what_can_run_is_let_through(place: Path, settings: list[str]):
    checked(place, *settings)


def test_cells_of_a_matrix_are_checked_alike(place: Path):
    text = RECIPE.replace("sentiment}", '"{base}", finetune: {epochs: "{n}"}}')
    (place / "m.yaml").write_text(f"matrix: {{base: [encoder, sentimnt], n: [1]}}\n{text}")
    with pytest.raises(RecipeError, match=r"did you mean 'sentiment'.*\(cell sentimnt-1\)"):
        check_cells(read_matrix(place / "m.yaml"))
    text = text.replace("epochs", "epoch").replace("sentimnt", "encoder")
    (place / "m.yaml").write_text(f"matrix: {{base: [encoder], n: [1]}}\n{text}")
    with pytest.raises(RecipeError, match=r"did you mean 'epochs'.*\(cell encoder-1\)"):
        read_matrix(place / "m.yaml")


def test_checking_a_teacher_loads_no_torch(place: Path):
    code = (
        "import sys; from edgecompress.engine.preflight import plan; "
        "from edgecompress.engine.recipe import *;"
        "plan(load_recipe(Path('r.yaml'))); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("stage", ["export", None])
def test_no_command_works_on_an_untrained_head(place: Path, stage: str | None, tmp_path: Path):
    from edgecompress.engine.opening import open_start
    from edgecompress.engine.pipeline import Pipeline
    from edgecompress.engine.splits import Splits, read_splits
    from edgecompress.progress import Silent
    from edgecompress.store import Store

    nameless = single_recipe("encoder", stage)
    with pytest.raises(EdgeCompressError, match=r"nothing says what .*encoder .*--task"):
        open_start(Pipeline(nameless, Store(tmp_path / "store"), Splits(), Silent()))
    for settings in ((), ("task=masked-lm",)):
        recipe = single_recipe("encoder", stage, like=place / "r.yaml", data_settings=settings)
        splits, _ = read_splits(recipe)
        pipeline = Pipeline(recipe, Store(tmp_path / "store"), splits, Silent())
        with pytest.raises(EdgeCompressError, match=r"nobody has trained the head.*finetune"):
            open_start(pipeline)


def run_offline(place: Path, model: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = ["--set", f"teacher.model={model}", "-o", "out", "--store", "store"]
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    known |= {"HF_HOME": str(place / "hf"), "HF_HUB_ETAG_TIMEOUT": "2", "NO_PROXY": "127.0.0.1"}
    known |= environment
    return subprocess.run(
        [sys.executable, "-m", "edgecompress", "run", "r.yaml", *settings],
        capture_output=True, text=True, cwd=place, env=known, check=False,
    )  # fmt: skip


def test_a_hub_that_does_not_answer_is_asked_once(place: Path):
    """It takes connections and says nothing."""
    asked: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wait() -> None:
            while True:
                try:
                    asked.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=wait, daemon=True).start()
        at = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = run_offline(place, "org-of-nobody/model", HF_ENDPOINT=at)
        server.close()
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    assert len(asked) == 1


def test_a_hub_that_is_not_there_is_one_sentence(place: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"http://127.0.0.1:{server.getsockname()[1]}"
    for model, environment in (
        ("org-of-nobody/model", {"HF_ENDPOINT": at}),
        ("model-of-nobody", {"HF_HUB_OFFLINE": "1"}),
    ):
        done = run_offline(place, model, **environment)
        assert done.returncode == 2
        said = done.stderr.strip().splitlines()[-1]
        assert said.startswith("edgecompress: there is no folder") and model in said


def test_a_model_in_the_hubs_cache_needs_no_network(place: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    from edgecompress.hub import model_folder

    home = place / "hub" / "models--org--name"
    shutil.copytree(place / "sentiment", home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "hub"))
    assert (
        json.loads((model_folder("org/name") / "config.json").read_text())["model_type"] == "bert"
    )
    checked(place, "teacher.model=org/name")
