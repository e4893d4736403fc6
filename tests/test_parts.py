"""A model of two graphs is quantized and measured part by part, from the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import in_process
from two_parts import write_samples, write_two_parts

from edgecompress.bundle import write_bundle
from edgecompress.errors import BundleError, DataError
from edgecompress.models.runner import open_onnx
from edgecompress.models.synthetic import synthetic_items
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.values import Candidate, OnnxModel


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def model(place: Path) -> Path:
    return write_two_parts(place / "model")


def run(place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    store = str(place / "store")
    return in_process(*arguments, cwd=place, EDGECOMPRESS_STORE=store, COLUMNS="100")


def operators(model: OnnxModel) -> set[str]:
    return {node.op_type for node in onnx.load(model.path).graph.node}


@pytest.fixture(scope="module")
def dynamic(place: Path, model: Path) -> Candidate:
    done = run(place, "quantize", model, "--scheme", "dynamic", "-o", "dynamic")
    assert done.returncode == 0, done.stderr
    return Candidate.load(place / "dynamic")


def check_answers(made: Candidate, model: Path) -> None:
    """Every part answers as its graph in fp32 does, nearly."""
    assert isinstance(made.model, OnnxModel)
    assert list(made.model.graphs) == ["encoder", "decoder"]
    for name, part in made.model.graphs.items():
        plain = OnnxModel(model / f"{name}.onnx")
        (items,) = synthetic_items([plain], {}, {}, count=2)
        for item in items:
            before, after = open_onnx(plain)(item), open_onnx(part)(item)
            for output, values in before.items():
                error = np.square(values - after[output]).mean() ** 0.5
                assert 0 < error < 0.1 * values.std()
        assert part.path.stat().st_size < 0.6 * plain.path.stat().st_size


def test_dynamic(dynamic: Candidate, model: Path) -> None:
    check_answers(dynamic, model)
    for part in dynamic.model.graphs.values():
        assert "MatMulInteger" in operators(part)
    decided = dynamic.steps[-1].decisions["parts"]
    assert set(decided) == {"encoder", "decoder"}


def test_static_takes_the_samples_of_each_part(place: Path, model: Path) -> None:
    data = write_samples(place / "data")
    quantize = ("quantize", model, "--scheme", "static", "--data", data)
    done = run(place, *quantize, "-o", "static")
    assert done.returncode == 0, done.stderr
    made = Candidate.load(place / "static")
    check_answers(made, model)
    for part in made.model.graphs.values():
        assert "DynamicQuantizeLinear" not in operators(part)
    (data / "decoder.npz").unlink()
    done = run(place, *quantize, "-o", "again")
    assert done.returncode == 2
    assert "no samples for the part 'decoder'; put decoder.npz" in done.stderr
    assert not (place / "again").exists()


def test_profile_measures_each_part(place: Path, dynamic: Candidate) -> None:
    fast = (
        "--set-recipe",
        "profile={cold_starts: 1, min_count: 30, max_warmup_ms: 50}",
        "--min-duration",
        "50ms",
    )
    done = run(place, "profile", "dynamic", *fast, "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    sizes = {each["metric"]: each["value"] for each in found if each["slice"] is None}
    files = [part.path for part in dynamic.model.graphs.values()]
    assert sizes["size"] == sum(file.stat().st_size for file in files)
    for metric in ("latency_p50", "load_memory"):
        parts = [each["slice"] for each in found if each["metric"] == metric]
        assert parts == ["part:encoder", "part:decoder"]
    done = run(place, "profile", "model", *fast)  # the folder as another tool wrote it
    assert done.returncode == 0, done.stderr
    assert "Part by part" in done.stdout


def test_what_fails_for_a_part_and_what_takes_one_graph(place: Path, dynamic: Candidate) -> None:
    done = run(place, "quantize", "dynamic", "--scheme", "half", "-o", "half")
    assert done.returncode == 1
    assert "edgecompress: encoder: the model has no fp32 weights" in done.stderr
    done = run(place, "sensitivity", "dynamic")
    assert done.returncode == 2
    assert "sensitivity takes one graph; name one of" in done.stderr
    (place / "r.yaml").write_text("name: r\nmodel: dynamic\nstages: [fuse]\n")
    for command in (("check", "r.yaml"), ("run", "r.yaml", "-o", "r")):
        done = run(place, *command)
        assert done.returncode == 2
        assert "r.yaml:2: model: a run ends with a bundle, which holds one graph" in done.stderr
    assert not (place / "r").exists()
    with pytest.raises(BundleError, match="holds one graph, and this model has encoder, decoder"):
        write_bundle(place / "bundle", dynamic, {}, {})


@pytest.mark.parametrize("name", ["encoder", "encoder_model"])
def test_which_folders_are_a_model_of_parts(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    write_two_parts(folder)
    for part in ("encoder", "decoder"):
        (folder / f"{part}.onnx").rename(folder / f"{name.replace('encoder', part)}.onnx")
    found = onnx_model_at(tmp_path)
    assert found is not None
    assert [(part, one.path.name) for part, one in found.parts] == [
        ("encoder", f"{name}.onnx"),
        ("decoder", f"{name.replace('encoder', 'decoder')}.onnx"),
    ]
    # PyTorch weights beside them are the model, and so is a graph that is all of it.
    (tmp_path / "model.safetensors").touch()
    assert onnx_model_at(tmp_path) is None
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "config.json").write_text("{}")
    (folder / "model.onnx").touch()
    assert onnx_model_at(tmp_path) == OnnxModel(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    (folder / f"{name}.onnx").unlink()
    one = folder / f"{name.replace('encoder', 'decoder')}.onnx"
    assert onnx_model_at(tmp_path) == OnnxModel(one)


def test_parts_lie_in_the_candidate_s_folder(dynamic: Candidate, tmp_path: Path) -> None:
    dynamic.save(tmp_path)
    document = json.loads((tmp_path / "candidate.json").read_text())
    assert Candidate.load(tmp_path).model.graphs["decoder"].path == (
        tmp_path / "model" / "decoder" / "model.onnx"
    )
    document["parts"]["../out"] = document["parts"].pop("decoder")
    (tmp_path / "candidate.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"'\.\./out' is no name of a part"):
        Candidate.load(tmp_path)
