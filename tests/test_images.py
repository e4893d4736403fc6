"""An ONNX file that transformers does not know, from a recipe to answers about images."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from commands import in_process
from pictures import COLOURS, picture, write_folder, write_graph
from serving import running

RECIPE = {
    "name": "colours",
    "task": "image-classification",
    "model": "model.onnx",
    "labels": list(COLOURS),
    "preprocessor": {
        "size": 32, "resample": "bicubic", "do_rescale": False, "image_mean": 127, "image_std": 128,
    },
    "data": {"format": "images", "root": ".", "train": "train", "validation": "dev",
             "test": "test"},
    "stages": ["quantize.static"],
    "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "min_count": 20,
                "cold_starts": 0, "attempts": 1},
    "budget": {"accuracy": {"min": "90%"}},
    "minimize": "size",
}  # fmt: skip


STORE: list[Path] = []


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return in_process(*arguments, EDGECOMPRESS_STORE=str(STORE[0]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph, images and a recipe, and what running it gave."""
    folder = tmp_path_factory.mktemp("colours")
    STORE[:] = [folder / "store"]
    write_graph(folder / "model.onnx")
    for seed, split in enumerate(("train", "dev", "test")):
        write_folder(folder / split, 4, seed)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    checked = command("check", folder / "recipe.yaml")
    assert checked.returncode == 0, checked.stderr
    done = command("run", folder / "recipe.yaml", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout and "photo.jpg" in done.stdout
    return folder


def test_a_run_scores_quantizes_and_says_what_it_needs(place: Path) -> None:
    result = json.loads((place / "out" / "results.json").read_text())
    row = next(row for row in result["rows"] if row["name"] == result["winner"])
    test = {m["metric"]: m["value"] for m in row["measurements"] if m["split"] == "test"
            and m["slice"] is None}  # fmt: skip
    assert test["accuracy"] == test["top5"] == 1 and test["macro_f1"] == 1 and 0 < test["ece"] < 1
    graph = onnx.load(place / "out" / "bundle" / "model.onnx").graph
    integers = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len([t for t in integers if len(t.dims) == 4]) == 2
    (card,) = (place / "out" / "bundle").rglob("*.md")
    for said in ("with the extra image", 'predict . "photo.jpg"', '.predict("photo.jpg")'):
        assert said in card.read_text()
    manifest = json.loads((place / "out" / "bundle" / "manifest.json").read_text())
    assert "pillow" in manifest["licences"]["packages"]
    assert "tokenizers, numpy and pillow" in (place / "out" / "report.html").read_text()


def test_answers_on_the_command_line(place: Path) -> None:
    bundle, red = place / "out" / "bundle", place / "test" / "red" / "0.png"
    said = command("predict", bundle, red, place / "test" / "blue" / "1.jpg")
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["red", "blue"]
    document = json.loads(command("predict", bundle, red, "--json").stdout)
    assert document["image"] == str(red) and document["label"] == "red"
    assert document["top"][0]["label"] == "red" and "scores" not in document
    lines = place / "test" / "asked.csv"
    lines.write_text("file;number\nred/0.png;1\ngreen/0.png;2\n")
    rows = command("predict", bundle, "--input", lines, "--json").stdout.splitlines()
    assert [(json.loads(row)["label"], json.loads(row)["number"]) for row in rows] == [
        ("red", "1"),
        ("green", "2"),
    ]
    lines.unlink()
    for wrong in ("nothing.png", str(place / "model.onnx")):
        refused = command("predict", bundle, wrong)
        assert refused.returncode == 2 and Path(wrong).name in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_answers_from_python(place: Path) -> None:
    from PIL import Image

    import edgecompress

    predictor = edgecompress.load(place / "out" / "bundle")
    file = place / "test" / "green" / "0.png"
    with Image.open(file) as image:
        asked = [file, str(file), file.read_bytes(), image, np.asarray(image), {"image": file}]
        assert {predictor.answer(one).label for one in asked} == {"green"}
    assert set(predictor.answer(file).scores) == set(COLOURS)
    many = [place / "test" / label / "2.png" for label in COLOURS]
    assert [one.label for one in predictor.predict(map(str, many))] == list(COLOURS)
    assert predictor.tune(limit_s=0.2) or predictor.tuned


def test_answers_over_http_and_no_file_of_the_server_is_read(place: Path) -> None:
    file = place / "test" / "blue" / "0.png"
    coded = base64.b64encode(file.read_bytes()).decode()
    with running(place / "out" / "bundle") as server:
        assert server.predict(image=coded).json["label"] == "blue"
        assert server.predict(image=f"data:image/png;base64,{coded}").json["label"] == "blue"
        several = server.predict(images=[coded, coded]).json["answers"]
        assert [one["label"] for one in several] == ["blue", "blue"]
        for wrong in (str(file), "", base64.b64encode(b"no image").decode(), {"path": str(file)}):
            refused = server.predict(image=wrong)
            assert refused.status == 422 and "image" in refused.json["error"]
            assert str(file) not in refused.json["error"]
        refused = server.predict(images="coded")
        assert refused.json["error"].startswith("images must be a list of images (a path or bytes")


def test_without_pillow_one_sentence_says_what_to_install(place: Path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from edgecompress.cli.main import main\n"
        f"main(['predict', {str(place / 'out' / 'bundle')!r}, 'a.png'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "Pillow is needed" in done.stderr and "[image]" in done.stderr


def test_channels_last_and_one_at_a_time(place: Path, tmp_path: Path) -> None:
    """A graph as TensorFlow writes it, whose classes stand beside it."""
    write_graph(tmp_path / "model.onnx", channels_last=True, batch=1)
    names = {str(number): label for number, label in enumerate(COLOURS)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    described = {"size": 32, "image_mean": 127 / 255, "image_std": 128 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    recipe = {**RECIPE, "data": {**RECIPE["data"], "root": str(place)}}
    recipe = {key: one for key, one in recipe.items() if key not in ("labels", "preprocessor")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = command("run", tmp_path / "recipe.yaml", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = command("predict", tmp_path / "out" / "bundle", place / "test" / "red" / "0.png")
    assert said.stdout.startswith("red")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preprocessor": None}, "nobody says how images are fed to this graph"),
        ({"preprocessor": {"size": 32}}, "preprocessor.*image_mean is missing"),
        ({"labels": None}, "nobody says what the classes of this graph are called"),
        ({"labels": ["a", "b"]}, "2 labels are named, and the graph scores 3 classes"),
        ({"labels": ["a", "b", "c"]}, "label 'blue' of the validation|the data's labels are"),
        ({"model": "HF", "preprocessor": {"size": 3}}, "how an ONNX file's inputs are made"),
    ],
)
def test_what_a_recipe_leaves_out(place: Path, tmp_path: Path, change: dict, said: str) -> None:
    import re

    recipe = {**RECIPE, "model": str(place / "model.onnx"), **change}
    recipe["data"] = {**RECIPE["data"], "root": str(place)}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({key: one for key, one in recipe.items() if one is not None}))
    done = command("run", file, "-o", tmp_path / "out")
    assert done.returncode in (1, 2) and re.search(said, done.stderr), done.stderr
    assert not (tmp_path / "out" / "bundle").exists()
    if change.get("labels"):
        checked = command("check", file)
        assert checked.returncode == 2 and "labels: the data has" in checked.stderr


def test_an_image_in_memory_is_answered(place: Path) -> None:
    from PIL import Image

    import edgecompress

    kept = io.BytesIO()
    Image.new("RGB", (9, 5), (250, 10, 20)).save(kept, "BMP")
    assert edgecompress.load(place / "out" / "bundle").answer(kept.getvalue()).label == "red"


def test_a_wrong_answer_may_be_right_among_five(place: Path, tmp_path: Path) -> None:
    import edgecompress

    turned = {**RECIPE, "labels": [*COLOURS[1:], COLOURS[0]]}
    recipe = place / "turned.yaml"
    recipe.write_text(yaml.safe_dump(turned))
    for whence in ("asked", "read from the store"):
        measured = edgecompress.evaluate(
            place / "model.onnx", recipe=recipe, store=tmp_path, progress=False
        )
        found = {one.metric: one.value for one in measured.measurements if one.slice is None}
        assert (found["accuracy"], found["top5"]) == (0, 1), whence


def test_images_of_unlike_sizes_are_asked_together(place: Path, tmp_path: Path) -> None:
    import edgecompress

    bundle = shutil.copytree(place / "out" / "bundle", tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.Clear()
    del model.graph.value_info[:]
    onnx.save(model, bundle / "model.onnx")
    (file,) = bundle.rglob("preprocessor_config.json")
    described = {**json.loads(file.read_text()), "size": {"shortest_edge": 32}}
    file.write_text(json.dumps(described))
    random = np.random.default_rng(0)
    asked = [picture("red", random), picture("blue", random).swapaxes(0, 1), picture("red", random)]
    found = edgecompress.load(bundle, verify=False).stream(asked)
    assert [one.label for one in found] == ["red", "blue", "red"]
