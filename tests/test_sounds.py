"""An ONNX file that transformers does not know, from a recipe to answers about sounds."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from commands import in_process
from serving import running
from tones import FRONT_END, RATE, TONES, tone, write_folder, write_graph, write_wav

from edgecompress.errors import DataError

STREAM = {"stride": 0.1, "smoothing": 0.2, "threshold": 0.9, "refractory": 0.6,
          "background": ["noise"]}  # fmt: skip
RECIPE = {
    "name": "tones",
    "task": "audio-classification",
    "model": "model.onnx",
    "labels": list(TONES),
    "preprocessor": {**FRONT_END, "stream": STREAM},
    "data": {"format": "sounds", "root": ".", "train": "train", "validation": "dev",
             "test": ["clips", "stream"]},
    "stages": ["quantize.static"],
    "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "min_count": 20,
                "cold_starts": 0, "attempts": 1},
    "budget": {"accuracy": {"min": "90%"}, "false_accepts": {"max": 1000}},
    "minimize": "size",
}  # fmt: skip

STORE: list[Path] = []


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return in_process(*arguments, EDGECOMPRESS_STORE=str(STORE[0]))


def with_tones(places: dict[float, str], seconds: float = 9.0) -> np.ndarray:
    """Give a recording of noise with tones at some seconds."""
    random = np.random.default_rng(5)
    made = tone("noise", random, seconds)
    for start, label in places.items():
        first = round(start * RATE)
        word = tone(label, random)
        made[first : first + len(word)] += word
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph, sounds and a recipe, and what running it gave."""
    folder = tmp_path_factory.mktemp("tones")
    STORE[:] = [folder / "store"]
    write_graph(folder / "model.onnx")
    for seed, split in enumerate(("train", "dev", "clips")):
        write_folder(folder / split, 6, seed)
    # Of nine seconds that nobody spoke in, two are loud: an accept each.
    write_wav(folder / "stream" / "noise" / "long.wav", with_tones({2.0: "low", 6.0: "high"}))
    write_wav(folder / "long.wav", with_tones({1.0: "high", 1.9: "low", 5.0: "low"}))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    done = command("run", folder / "recipe.yaml", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_scores_quantizes_and_counts_false_accepts(place: Path) -> None:
    result = json.loads((place / "out" / "results.json").read_text())
    row = next(row for row in result["rows"] if row["name"] == result["winner"])
    test = {(m["metric"], m["slice"]): m["value"] for m in row["measurements"]
            if m["split"] == "test"}  # fmt: skip
    assert test["accuracy", "file:clips"] == 1 and test["macro_f1", "file:clips"] == 1
    assert test["false_accepts", "file:clips"] == 0
    assert test["false_accepts", "file:stream"] == 800  # two in nine seconds
    assert test["false_accepts", None] == 400  # two in eighteen
    graph = onnx.load(place / "out" / "bundle" / "model.onnx").graph
    integers = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len([t for t in integers if len(t.dims) == 4]) == 2
    (card,) = (place / "out" / "bundle").rglob("*.md")
    assert 'predict . "word.wav"' in card.read_text()


def test_answers_on_the_command_line(place: Path) -> None:
    bundle, low = place / "out" / "bundle", place / "clips" / "low" / "0.wav"
    said = command("predict", bundle, low, place / "clips" / "high" / "1.wav")
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["low", "high"]
    document = json.loads(command("predict", bundle, low, "--json").stdout)
    assert document["audio"] == str(low) and document["label"] == "low"
    assert "scores" not in document and "heard" not in document
    lines = place / "asked.csv"
    lines.write_text("file;number\nclips/low/0.wav;1\nclips/noise/0.wav;2\n")
    rows = command("predict", bundle, "--input", lines, "--json").stdout.splitlines()
    assert [(json.loads(row)["label"], json.loads(row)["number"]) for row in rows] == [
        ("low", "1"),
        ("noise", "2"),
    ]
    for wrong in ("nothing.wav", str(place / "model.onnx")):
        refused = command("predict", bundle, wrong)
        assert refused.returncode == 2 and Path(wrong).name in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_words_of_a_stream_are_heard_once_each(place: Path) -> None:
    bundle, long = place / "out" / "bundle", place / "long.wav"
    (said,) = command("predict", bundle, long, "--json").stdout.splitlines()
    words = json.loads(said)["heard"]
    assert [one["label"] for one in words] == ["high", "low", "low"]
    assert [one["at"] for one in words] == pytest.approx([1.25, 2.15, 5.25], abs=0.3)
    lines = command("predict", bundle, long).stdout.splitlines()
    assert len(lines) == 4 and re.match(r" +1\.\d+ s  high", lines[1])


def test_answers_from_python(place: Path) -> None:
    import edgecompress

    predictor = edgecompress.load(place / "out" / "bundle")
    file = place / "clips" / "high" / "0.wav"
    samples = tone("high", np.random.default_rng(3))
    decoded = {"array": samples.tolist(), "sampling_rate": RATE}
    asked = [file, str(file), file.read_bytes(), {"audio": decoded}, {"audio": file}]
    asked += [{"audio": {"array": np.repeat(samples, 3), "sampling_rate": 3 * RATE}}]
    assert {predictor.answer(one).label for one in asked} == {"high"}
    assert set(predictor.answer(file).scores) == set(TONES)
    assert predictor.answer({"audio": {"array": np.zeros(99), "sampling_rate": RATE}}).label
    for wrong, said in (
        ({"array": [[1.0, 2.0]], "sampling_rate": RATE}, "floats from -1 to 1 along one axis"),
        ({"array": [], "sampling_rate": RATE}, "the sound is empty"),
        ({"array": [0.0], "sampling_rate": "8k"}, "sampling_rate must be a whole number"),
        ({"array": "x", "sampling_rate": RATE}, "array must be a list of numbers"),
    ):
        with pytest.raises(DataError, match=said):
            predictor.answer({"audio": wrong})
    many = [place / "clips" / label / "2.wav" for label in TONES]
    assert [one.label for one in predictor.predict(map(str, many))] == list(TONES)
    assert predictor.tune(limit_s=0.2) or predictor.tuned


def test_answers_over_http_and_no_file_of_the_server_is_read(place: Path) -> None:
    file = place / "clips" / "low" / "0.wav"
    coded = base64.b64encode(file.read_bytes()).decode()
    with running(place / "out" / "bundle") as server:
        assert server.predict(audio=coded).json["label"] == "low"
        several = server.predict(sounds=[coded, f"data:audio/wav;base64,{coded}"]).json["answers"]
        assert [one["label"] for one in several] == ["low", "low"]
        for wrong in (str(file), "", base64.b64encode(b"no sound").decode(), {"path": str(file)}):
            refused = server.predict(audio=wrong)
            assert refused.status == 422 and re.search("audio|sound", refused.json["error"])
            assert str(file) not in refused.json["error"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"preprocessor": None}, "nobody says how sounds are fed to this graph; describe it"),
        ({"preprocessor": {**FRONT_END, "duration": 1.0}}, "becomes 101 × 8, and .* takes 51 × 8"),
        ({"preprocessor": {**FRONT_END, "n_mel": 8}}, "recipe.yaml:.*no key 'n_mel'"),
        ({"labels": ["a", "b"]}, "2 labels are named, and the graph scores 3 classes"),
        ({"data": {**RECIPE["data"], "train": "broken"}}, "1.wav: not a sound that can be read"),
        ({"data": {**RECIPE["data"], "train": "empty"}}, "there is no such folder of sounds"),
    ],
)
def test_what_does_not_fit_gets_one_sentence_and_no_bundle(
    place: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    broken = place / "broken" / "low" / "1.wav"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"RIFF and nothing")
    recipe = {**RECIPE, **changed, "model": str(place / "model.onnx")}
    recipe["data"] = {**recipe["data"], "root": str(place)}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({key: one for key, one in recipe.items() if one is not None}))
    done = command("run", file, "-o", tmp_path / "out")
    assert done.returncode in (1, 2) and re.search(said, done.stderr), done.stderr
    assert not (tmp_path / "out" / "bundle").exists()
