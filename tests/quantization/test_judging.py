"""A scheme that would answer wrongly keeps what is at fault in fp32, or refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper

from edgecompress.cli.main import main
from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.half import Half
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel

WIDTH = 16
make = helper.make_node


def branches(file: Path, masked: int, plain: int = 1, hidden: float = -1e9) -> OnnxModel:
    """Products of one input, joined; in the first `masked` of them a mask's value is the range."""
    random = np.random.default_rng(0)
    nodes, tensors, parts = [], [], []
    tensors.append(numpy_helper.from_array(np.array([0, 0, 0, 4]), "pads"))
    tensors.append(numpy_helper.from_array(np.float32(hidden), "hidden"))
    nodes.append(make("Pad", ["x", "pads", "hidden"], ["wide"], "pad"))
    for number in range(masked + plain):
        bad = number < masked
        weight = random.standard_normal((WIDTH + 4 * bad, 8)).astype(np.float32)
        weight[WIDTH:] = 0
        tensors.append(numpy_helper.from_array(weight, f"w{number}"))
        given = ["wide" if bad else "x", f"w{number}"]
        nodes.append(make("MatMul", given, [f"part{number}"], f"product{number}"))
        parts.append(f"part{number}")
    nodes.append(make("Concat", parts, ["y"], "join", axis=1))
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "k"])],
        tensors,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file
    )
    return OnnxModel(file)


def error(first: OnnxModel, second: OnnxModel) -> float:
    x = np.random.default_rng(5).standard_normal((12, WIDTH)).astype(np.float32)
    a, b = (open_session(model).run(None, {"x": x})[0] for model in (first, second))
    return float(np.sqrt(np.mean(np.square(a - b))) / a.std())


def test_the_layer_at_fault_stays_in_fp32(tmp_path: Path) -> None:
    model = branches(tmp_path / "m.onnx", masked=2, plain=3)
    made = Dynamic().apply(Candidate(model), small_context(tmp_path / "a"))
    step = made.steps[-1]
    assert set(step.decisions["held"]) == {"w0", "w1"}
    assert set(step.decisions["exceptions"]) == {"product0", "product1"}
    assert all(
        why.startswith("in 8 bits or fewer, ") for why in step.decisions["exceptions"].values()
    )
    assert len(step.decisions["int8_linears"]) == 3
    told = step.measured["answers"]
    assert told["of"] == "made-up inputs" and "fault" not in told
    assert told["outputs"]["y"]["error"] < 0.05 and error(model, made.model) < 0.05
    # Made again from its record, it is the same, and nothing is compared.
    again = Dynamic().apply(Candidate(model), small_context(tmp_path / "b"), step.decisions)
    assert again.model.path.read_bytes() == made.model.path.read_bytes()
    assert again.steps[-1].decisions == step.decisions and not again.steps[-1].measured


def test_a_model_of_good_answers_is_made_once(tmp_path: Path) -> None:
    model = branches(tmp_path / "m.onnx", masked=0, plain=3)
    made = Dynamic().apply(Candidate(model), small_context(tmp_path / "a"))
    assert "held" not in made.steps[-1].decisions
    assert made.steps[-1].measured["answers"]["outputs"]["y"]["error"] < 0.05


def test_calibration_data_are_what_static_is_judged_on(tmp_path: Path) -> None:
    """One row of a million times the others sets the range, and nothing is left of them."""
    model = branches(tmp_path / "m.onnx", masked=0, plain=2)
    x = np.random.default_rng(1).standard_normal((9, WIDTH)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)
    made = Static(inputs=str(tmp_path / "calib.npz")).apply(
        Candidate(model), small_context(tmp_path / "a")
    )
    told = made.steps[-1].measured["answers"]
    assert (told["samples"], told["of"]) == (8, "calibration samples")
    x[8] *= 1e6
    np.savez(tmp_path / "calib.npz", x=x)
    stage = Static(inputs=str(tmp_path / "calib.npz"))
    made = stage.apply(Candidate(model), small_context(tmp_path / "b"))
    assert made.steps[-1].decisions["exceptions"] and error(model, made.model) < 0.05


def test_what_cannot_be_mended_is_refused_and_kept_by_force(tmp_path: Path) -> None:
    model = branches(tmp_path / "m.onnx", masked=7)
    with pytest.raises(StageError) as told:
        Dynamic().apply(Candidate(model), small_context(tmp_path / "a"))
    said = str(told.value)
    assert said.startswith("its answers are no longer those of the fp32 model: y differs")
    assert "with w0, w1, w2, w3 in fp32" in said and "--force" in said
    assert "5 made-up inputs" in said and "they part at part" in said
    made = Dynamic(force=True).apply(Candidate(model), small_context(tmp_path / "b"))
    assert "held" not in made.steps[-1].decisions
    assert "differs from fp32's" in made.steps[-1].measured["answers"]["fault"]


def test_halves_hold_what_16_bits_lose(tmp_path: Path) -> None:
    """The weights fit into fp16; what is made of them in fp32 does not care."""
    model = branches(tmp_path / "m.onnx", masked=1, plain=2)
    made = Half().apply(Candidate(model), small_context(tmp_path / "a"))
    assert made.steps[-1].measured["answers"]["outputs"]["y"]["error"] < 0.01


def test_the_command_says_how_far_the_answers_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (branches(tmp_path / f"{n}.onnx", masked=n) for n in (1, 7))
    out, store = tmp_path / "out.onnx", ["--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(bad.path), "-o", str(out), *store])
    said = capsys.readouterr()
    assert ended.value.code == 1 and not out.exists()
    assert "no longer those of the fp32 model" in said.err and "Traceback" not in said.err
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(bad.path), "--force", "-o", str(out), *store])
    assert ended.value.code in (0, None) and out.exists()
    assert "kept by force" in capsys.readouterr().out
    other = tmp_path / "good"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(good.path), "-o", str(other), *store])
    said = capsys.readouterr()
    assert ended.value.code in (0, None)
    assert "in fp32: product0 (in 8 bits or fewer, " in said.out
    assert "answers: y differs from fp32's by" in said.out
    steps = json.loads((other / "candidate.json").read_text(encoding="utf-8"))["steps"]
    assert steps[-1]["decisions"]["held"].keys() == {"w0"}
