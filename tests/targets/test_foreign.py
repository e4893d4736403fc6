"""Five ONNX files of foreign make by the command line alone: four profiles and one refusal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import in_process
from foreign_models import FOREIGN
from onnx import TensorProto, helper

QUICK = [
    *("--set-recipe", "profile.cold_starts=1", "--set-recipe", "profile.warmup_ms=20"),
    *("--set-recipe", "profile.max_warmup_ms=50", "--set-recipe", "profile.min_count=20"),
    *("--set-recipe", "profile.attempts=1", "--min-duration", "50ms"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("foreign")
    for name, make in FOREIGN.items():
        make(made / f"{name}.onnx")
    return made


def profile(*arguments: object, store: Path) -> subprocess.CompletedProcess[str]:
    environment = {"EDGECOMPRESS_STORE": str(store), "COLUMNS": "80"}
    return in_process("profile", *arguments, *QUICK, **environment)


def metrics(output: str, model: object) -> dict[str, float]:
    lines = [json.loads(line) for line in output.splitlines()]
    return {
        line["metric"]: line["value"]
        for line in lines
        if line["model"] == str(model) and line["slice"] is None
    }


def test_four_profiles_and_one_refusal(folder: Path, tmp_path: Path) -> None:
    files = {name: folder / f"{name}.onnx" for name in FOREIGN}
    done = profile(*files.values(), "--json", store=tmp_path)
    assert done.returncode == 2
    refusal = "the operator acme.kernels::FastTokenShift (node '/block.0/shift') is unknown"
    refusals = [line for line in done.stderr.splitlines() if line.startswith("edgecompress: ")]
    assert len(refusals) == 1
    assert refusal in refusals[0]
    for name, file in files.items():
        found = metrics(done.stdout, file)
        if name == "custom":
            assert not found
        else:
            assert found["latency_p50"] > 0
            assert found["peak_memory"] > found["memory_rise"] > 0
            assert found["size"] == file.stat().st_size


def test_the_refusal_alone_starts_no_process(folder: Path, tmp_path: Path) -> None:
    done = profile(folder / "custom.onnx", store=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "replace it by standard operators" in done.stderr
    assert "agent" not in done.stderr


def test_sizes_bounds_and_operators_are_set_from_outside(folder: Path, tmp_path: Path) -> None:
    done = profile(
        folder / "transformer.onnx", "--size", "sequence_length=12", "--bound", "input_ids=50",
        "--operators", "--threads", "1,2", "--arena", "both", "--batch", "2", "--json",
        store=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    main = next(line for line in lines if line["metric"] == "latency_p50" and not line["slice"])
    assert main["conditions"]["tokens"]["max"] == 12
    slices = {line["slice"] for line in lines}
    assert {"threads:2", "arena:off", "batch:2", "operator:MatMul"} <= slices


def test_inputs_from_a_file(folder: Path, tmp_path: Path) -> None:
    rows = {f"{item}/ids": np.full((item + 3, 1), 7) for item in range(2)}
    np.savez(tmp_path / "x.npz", **rows)
    model = folder / "lstm.onnx"
    done = profile(model, "--inputs", tmp_path / "x.npz", "--json", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert metrics(done.stdout, model)["latency_p50"] > 0


def test_two_models_interleaved(folder: Path, tmp_path: Path) -> None:
    done = profile(
        "--compare", folder / "cnn.onnx", folder / "transformer.onnx", "--json", store=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ratio = next(line for line in lines if line["metric"] == "speedup")
    assert ratio["interval"][0] <= ratio["value"] <= ratio["interval"][1]
    assert ratio["conditions"]["interleaved"] == 2


def test_a_link_to_a_model_with_external_data(tmp_path: Path) -> None:
    """As download caches keep them: named links to files with names of their own."""
    blobs, links = tmp_path / "blobs", tmp_path / "links"
    blobs.mkdir()
    links.mkdir()
    weight = onnx.numpy_helper.from_array(np.ones((4, 1000), np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(blobs / "a"), save_as_external_data=True, location="model.data")
    (blobs / "model.data").rename(blobs / "b")
    (links / "model.onnx").symlink_to("../blobs/a")
    (links / "model.data").symlink_to("../blobs/b")
    done = profile(links / "model.onnx", "--json", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert metrics(done.stdout, links / "model.onnx")["size"] > 16000


def test_what_fails_only_when_it_is_loaded(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"], name="sum")], "g",
        [value("a", TensorProto.FLOAT, [1]), value("b", TensorProto.INT64, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    done = profile(tmp_path / "m.onnx", "--json", store=tmp_path / "store")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    failed = next(line for line in lines if line["metric"] == "profile")
    assert failed["value"] is None
    assert "bound to different types" in failed["invalid"]
    assert "Traceback" not in failed["invalid"] + done.stderr
