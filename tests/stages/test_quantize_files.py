"""`edgecompress quantize` on any graph with calibration data from files, without a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from foreign_models import cnn
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper

from edgecompress.cli.main import cli
from edgecompress.errors import DataError, StageError
from edgecompress.models import storage
from edgecompress.models.session import open_session
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel

RANDOM = np.random.default_rng(0)


def perceptron(file: Path, opset: int = 17) -> OnnxModel:
    """Two linear layers on 16 floats, the first on the graph's own input."""
    weights = {
        "first": RANDOM.standard_normal((32, 16)) / 4,
        "bias": RANDOM.standard_normal(32),
        "second": RANDOM.standard_normal((32, 8)) / 6,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["h"], "gemm", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "second"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(made, file)
    return OnnxModel(file)


def samples(file: Path, count: int = 20) -> np.ndarray:
    array = RANDOM.standard_normal((count, 16)).astype(np.float32)
    np.savez(file, x=array)
    return array


def test_any_graph_from_the_command_line(tmp_path: Path) -> None:
    model = perceptron(tmp_path / "model.onnx")
    array = samples(tmp_path / "calib.npz")
    output = tmp_path / "small.onnx"
    arguments = ["quantize", str(model.path), "-o", str(output), "--scheme", "static"]
    arguments += ["--data", str(tmp_path / "calib.npz"), "--store", str(tmp_path / "store")]
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code == 0, made.output
    found = coverage(OnnxModel(output))
    assert len(found.int8_linears) == 2 and not found.fp32_linears
    expected, given = (
        open_session(OnnxModel(file)).run(None, {"x": array})[0] for file in (model.path, output)
    )
    assert np.abs(expected - given).mean() < 0.03 * expected.std()


def test_bad_data_ends_with_a_sentence_and_nothing_half_written(tmp_path: Path) -> None:
    model = perceptron(tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", y=np.ones((2, 16), np.float32))
    output = tmp_path / "small.onnx"
    arguments = ["quantize", str(model.path), "-o", str(output), "--store", str(tmp_path / "store")]
    data = ["--data", str(tmp_path / "calib.npz")]
    made = CliRunner().invoke(cli, [*arguments, "--scheme", "static", *data])
    assert isinstance(made.exception, DataError) and made.exception.exit_code == 2
    assert "there is no array x; the model takes x (float32 batch × 16)" in str(made.exception)
    assert not output.exists()
    made = CliRunner().invoke(cli, [*arguments, *data])
    assert made.exit_code == 2 and "add --scheme static" in made.output
    for scheme in ("half", "weights"):
        made = CliRunner().invoke(cli, [*arguments, "--scheme", scheme, *data])
        assert isinstance(made.exception, DataError) and "no array x" in str(made.exception)
        assert not output.exists()


def test_the_stage_keeps_its_contract_and_counts(tmp_path: Path) -> None:
    candidate = Candidate(perceptron(tmp_path / "model.onnx"))
    samples(tmp_path / "calib.npz")
    stage = Static(inputs=str(tmp_path / "calib.npz"), samples=7)
    assert not stage.reads_examples() and Static().reads_examples()
    made = check_stage(stage, candidate, small_context(tmp_path))
    decided = made.steps[-1].decisions
    assert decided["calibrated_on"] == 7 and set(decided["ranges"]) == {"x", "r"}
    assert decided["ranges"]["r"][0] == 0


def test_its_identity_is_what_the_data_holds(tmp_path: Path) -> None:
    samples(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    first, second = (Static(inputs=str(tmp_path / name)) for name in ("a.npz", "b.npz"))
    assert first.identity() == second.identity()
    samples(tmp_path / "b.npz", 3)
    assert first.identity() != second.identity()
    with pytest.raises(DataError, match="no such calibration data"):
        Static(inputs=str(tmp_path / "c.npz")).check_inputs()
    with pytest.raises(DataError, match="/dev/zero: is neither a file nor a folder"):
        Static(inputs="/dev/zero").check_inputs()
    with pytest.raises(ValueError, match="give one of them"):
        Static(inputs="a.npz", calibration="quickstart")
    with pytest.raises(ValueError, match="give inputs, too"):
        Static(preprocessor="folder")


def test_nan_is_named_with_its_sample_and_tensor(tmp_path: Path) -> None:
    candidate = Candidate(perceptron(tmp_path / "model.onnx"))
    array = samples(tmp_path / "calib.npz", 4)
    array[2, 5] = np.nan
    np.savez(tmp_path / "calib.npz", x=array)
    with pytest.raises(StageError, match="sample 3 holds NaN or infinite values in x"):
        Static(inputs=str(tmp_path / "calib.npz")).apply(candidate, small_context(tmp_path))


def test_an_old_opset_is_upgraded_and_told(tmp_path: Path) -> None:
    model = perceptron(tmp_path / "model.onnx", opset=10)
    array = samples(tmp_path / "calib.npz")
    expected = open_session(model).run(None, {"x": array})[0]
    for stage in (Static(inputs=str(tmp_path / "calib.npz")), Dynamic()):
        place = tmp_path / type(stage).__name__
        made = check_stage(stage, Candidate(model), small_context(place))
        assert made.steps[-1].decisions["opset"] == {"from": 10, "to": 17}
        given = open_session(made.model).run(None, {"x": array})[0]
        assert np.abs(expected - given).mean() < 0.05 * expected.std()
        assert not list((place / "scratch").iterdir())


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    candidate = Candidate(perceptron(tmp_path / "model.onnx"))
    samples(tmp_path / "calib.npz")
    static = Static(inputs=str(tmp_path / "calib.npz"))
    for name, stage in (("a", static), ("b", Dynamic())):
        made = stage.apply(candidate, small_context(tmp_path / name))
        again = Candidate(made.model)
        with pytest.raises(StageError, match=r"nothing is left to quantize: .* quantized already"):
            stage.apply(again, small_context(tmp_path / f"{name}2"))


def test_the_rest_of_a_model_that_is_quantized_in_part(tmp_path: Path) -> None:
    weights = {f"w{k}": RANDOM.standard_normal((16, 8)).astype(np.float32) for k in "ab"}
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{k}"], [f"y{k}"], f"product {k}") for k in "ab"),
        helper.make_node("Sub", ["ya", "yb"], ["y"], "difference"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    array = samples(tmp_path / "calib.npz")
    both = [Static(inputs=str(tmp_path / "calib.npz"), exclude=("product b",)), Dynamic()]
    for name, order in (("a", both), ("b", [Dynamic(exclude=("product b",)), both[0]])):
        found = Candidate(OnnxModel(tmp_path / "m.onnx"))
        stages = [order[0], order[1].model_copy(update={"exclude": ()})]
        for number, stage in enumerate(stages):
            found = stage.apply(found, small_context(tmp_path / f"{name}{number}"))
        assert len(found.steps[-1].decisions["int8_linears"]) == 2
        expected, given = (
            open_session(m).run(None, {"x": array})[0]
            for m in (OnnxModel(tmp_path / "m.onnx"), found.model)
        )
        assert np.abs(expected - given).mean() < 0.03 * expected.std()


def test_operators_that_cannot_be_quantized_are_named(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(StageError, match=r"no layer that can be quantized .*: 1 ConvTranspose"):
        Dynamic().apply(Candidate(OnnxModel(tmp_path / "m.onnx")), small_context(tmp_path))


def test_a_large_model_keeps_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate(perceptron(tmp_path / "model.onnx"))
    array = samples(tmp_path / "calib.npz")
    small = Static(inputs=str(tmp_path / "calib.npz"))
    inline = small.apply(candidate, small_context(tmp_path / "a"))
    monkeypatch.setattr(storage, "MOST_INLINE_BYTES", 64)
    monkeypatch.setattr(storage, "BIG_BYTES", 32)
    made = check_stage(small, candidate, small_context(tmp_path / "b"))
    assert (made.model.directory / "model.onnx.data").stat().st_size >= 32 * 24
    first, second = (open_session(m.model).run(None, {"x": array})[0] for m in (inline, made))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--scheme", "auto", "--data", "."], "auto takes no --data but a task's files"),
        (["--scheme", "static"], ", or --data PATH"),
        (["--scheme", "weights", "--set", "bits=3"], "did you mean 'embedding_bits' or"),
    ],
)
def test_what_does_not_fit_a_scheme_is_said_in_its_own_words(
    given: list[str], expected: str, tmp_path: Path
) -> None:
    model = perceptron(tmp_path / "model.onnx")
    arguments = ["quantize", str(model.path), "-o", str(tmp_path / "small"), *given]
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code and expected in f"{made.output}{made.exception}"
    assert not (tmp_path / "small").exists()


def test_layers_that_stay_in_fp32_are_named(tmp_path: Path) -> None:
    model, store = cnn(tmp_path / "model.onnx"), str(tmp_path / "store")
    arguments = ["quantize", str(model), "-o", str(tmp_path / "small"), "--store", store]
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code == 0, made.output
    assert "in fp32: " in made.output
    assert "(convolutions are quantized by quantize.static only)" in made.output


@pytest.mark.parametrize("scheme", ["half", "weights"])
def test_a_graph_that_no_made_up_input_fits_is_compared_on_given_ones(
    scheme: str, tmp_path: Path
) -> None:
    """Rows of a table are looked up by what is computed of the input: most numbers lead outside."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(5, 32)).astype(np.float32),
        "w": rng.normal(size=(32, 64)).astype(np.float32),
        "thousand": np.float32(1000),
    }
    nodes = [
        helper.make_node("Mul", ["x", "thousand"], ["large"]),
        helper.make_node("Cast", ["large"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["found"]),
        helper.make_node("MatMul", ["found", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 64])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "given.npz", x=(rng.integers(0, 5, (8, 3)) / 1000).astype(np.float32))
    arguments = ["quantize", str(tmp_path / "m.onnx"), "--scheme", scheme]
    given = ["--data", str(tmp_path / "given.npz"), "-o", str(tmp_path / "small")]
    made = CliRunner().invoke(cli, [*arguments, *given])
    assert made.exit_code == 0, made.output
    step = json.loads((tmp_path / "small" / "candidate.json").read_text())["steps"][-1]
    assert step["measured"]["answers"]["samples"] == 8
    assert step["measured"]["answers"]["outputs"]["y"]["error"] < 0.2
