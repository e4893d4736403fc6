"""Every scheme on random graphs of the kinds that exporters write: it works, or says why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from strange_graphs import FLOAT, GRAPHS, SIGNATURES, Graph, state_samples, strange_graph

from edgecompress.cli.main import main
from edgecompress.errors import DataError, StageError
from edgecompress.models.session import open_session
from edgecompress.models.synthetic import made_feeds
from edgecompress.onnx_folders import onnx_in_folder
from edgecompress.values import OnnxModel

SCHEMES = ("dynamic", "static", "weights", "half")
LINEAR = ("dynamic", "weights")
REFUSED = {
    "minus one": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "long sound": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "flat sound": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "halved image": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "only convolutions": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "inner weights": dict.fromkeys(SCHEMES, "4,096 values of its weights lie inside If or Loop"),
    "one filter bank": dict.fromkeys(LINEAR, "no layer can be quantized"),
    "half weights": {
        **dict.fromkeys(SCHEMES, "weights have 16 bits"), "half": "no fp32 weights",
    },
    "double weights": {**dict.fromkeys(SCHEMES, "operators with a weight"), "half": "no fp32 wei"},
    "trees": {**dict.fromkeys(SCHEMES, "no layer that can be quan"), "half": "no fp32 weights"},
    "words": {
        **dict.fromkeys(("static", "half"), "only numbers can be"), "weights": "no multiple of 16",
    },
}  # fmt: skip
"""What cannot be done, and a part of the sentence that says so."""
SMALL = {
    *("worked out", "every type", "minus one", "halved image", "states", "nameless state"),
    "unfolded",
}
"""Layers that are too narrow for blocks, or weights that are too few to be halved."""


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command line; give its exit code and what it said."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return int(stop.value.code or 0), told.out + told.err


def distance(first: Path, second: Path, feeds: list[dict[str, np.ndarray]]) -> float:
    """Root mean square difference of the outputs of floats over their deviation."""
    sessions = [open_session(OnnxModel(path)) for path in (first, second)]
    worst = 0.0
    for feed in feeds:
        for x, y in zip(*(session.run(None, feed) for session in sessions), strict=True):
            if isinstance(x, np.ndarray) and x.dtype.kind == "f":
                worst = max(worst, float(np.sqrt(np.mean((x - y) ** 2)) / (x.std() or 1)))
    return worst


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("seed", [11])
def test_every_scheme_works_or_says_why_not(
    kind: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_graph(kind, tmp_path / "model.onnx", seed)
    feeds = [] if kind == "words" else made_feeds(OnnxModel(file), [(1, 8)] * 6)
    data = tmp_path / "samples"
    data.mkdir()
    for number, feed in enumerate(feeds[:4]):
        np.savez(data / f"{number}.npz", **{name: array[None] for name, array in feed.items()})
    if kind == "states":
        hidden = open_session(OnnxModel(file)).get_inputs()[1].shape[2]
        data = state_samples(tmp_path / "data.npz", seed, hidden)
    if kind == "words":
        np.savez(data / "0.npz", x=np.zeros((1, 2), np.float32))
    for scheme in SCHEMES:
        out = tmp_path / f"{scheme}.onnx"
        given = ("--data", data) if scheme == "static" else ()
        command = ("quantize", file, "--scheme", scheme, *given, "-o", out)
        code, told = said(capsys, *command, "--store", tmp_path / "store")
        expected = REFUSED.get(kind, {}).get(scheme)
        if expected is not None:
            assert code in (1, 2) and expected in told, (scheme, told)
            assert not out.exists() and str(tmp_path / "store") not in told
            assert len([line for line in told.splitlines() if line.strip()]) == 1
        elif code and kind in SMALL:
            assert "multiple of 16" in told or "no fp32 weights" in told
        else:
            assert code == 0, (scheme, told)
            assert out.read_bytes() != file.read_bytes()
            # The states that are calibrated with are none of those that are compared on.
            most = 0.6 if scheme == "weights" or kind == "states" else 0.2
            assert distance(file, out, feeds) < most, scheme


def test_a_graph_without_the_standard_operators_is_not_called_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_graph("trees", tmp_path / "model.onnx", 0)
    model = onnx.load(file)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, file)
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 4), np.float32))
    commands = [("quantize", "--scheme", scheme, "-o", tmp_path / "out") for scheme in SCHEMES]
    commands[1] = (*commands[1], "--data", tmp_path / "data.npz")
    for name, *rest in (*commands, ("sensitivity",)):
        code, told = said(capsys, name, file, *rest, "--store", tmp_path / "store")
        assert code == 1 and ("opset" not in told), told
        assert "no layer" in told or "no linear layer" in told or "nothing to do" in told


def test_a_file_that_grew_is_not_called_smaller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph(0)
    graph.input("x", FLOAT, ["n", 4])
    last = "x"
    for number in range(6):
        last = graph.add("MatMul", [last, graph.weight(f"w{number}", 4, 4)], f"y{number}")
    graph.output(last, ["n", 4])
    file = graph.save(tmp_path / "model.onnx")
    code, told = said(capsys, "quantize", file, "-o", tmp_path / "out.onnx")
    assert code == 0 and (tmp_path / "out.onnx").stat().st_size > file.stat().st_size
    assert "× larger" in told and "smaller" not in told and "beware: the file has grown" in told


@pytest.mark.parametrize("kind", ["outer weights", "old", "past and now", "minus one"])
def test_sensitivity_of_what_is_unusual(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_graph(kind, tmp_path / "model.onnx", 5)
    options = ("--samples", "100000000", "--parts", "layers", "--store", tmp_path / "store")
    code, told = said(capsys, "sensitivity", file, *options)
    if kind == "minus one":  # convolutions are left out, and nothing else is there
        assert code == 1 and "convolutions are left out" in told
    else:
        assert code == 0 and "of 100000000 asked for" in told


@pytest.mark.parametrize("count", [1, 2])
def test_a_comparison_names_what_differs(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, broken in (("first", False), ("second", True)):
        weights = [np.eye(8, dtype=np.float32) for _ in range(count)]
        weights[-1][0, 0] = np.nan if broken else 1
        nodes = [
            helper.make_node("MatMul", [f"h{n}" if n else "x", f"w{n}"], [f"h{n + 1}"])
            for n in range(count)
        ]
        ends = [
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", 8])]
            for end in ("x", f"h{count}")
        ]
        tensors = [numpy_helper.from_array(w, f"w{n}") for n, w in enumerate(weights)]
        graph = helper.make_graph(nodes, "g", *ends, tensors)
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(
            helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / f"{name}.onnx"
        )
    files = (tmp_path / "first.onnx", "--compare", tmp_path / "second.onnx")
    code, told = said(capsys, "sensitivity", *files, "--store", tmp_path / "store")
    assert code == 0 and f"falls most at h{count} (MatMul)" in told


def test_a_folder_of_an_exporter_is_the_model_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    model = strange_graph("no shapes", folder / "model.onnx", 0)
    store = ("--store", tmp_path / "store")
    assert said(capsys, "quantize", folder, "-o", tmp_path / "out", *store)[0] == 0
    code, told = said(capsys, "export", folder, "-o", tmp_path / "again", *store)
    assert code == 2 and "it is exported already" in told
    (folder / "onnx").mkdir()
    shutil.move(model, folder / "onnx" / "decoder.onnx")
    assert onnx_in_folder(folder) == folder / "onnx" / "decoder.onnx"
    shutil.copy(folder / "onnx" / "decoder.onnx", folder / "onnx" / "encoder.onnx")
    with pytest.raises(DataError, match="several graphs"):
        onnx_in_folder(folder)
    (folder / "model.safetensors").touch()
    assert onnx_in_folder(folder) is None


@pytest.mark.parametrize("name", ["d\U0001f600ta.npz", "day 1: «x».npz", "ol\u00e9.npz"])
def test_a_path_of_any_characters(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = strange_graph("no shapes", tmp_path / "model.onnx", 0)
    np.savez(tmp_path / name, x=np.random.default_rng(0).standard_normal((4, 32)).astype("f"))
    options = ("--scheme", "static", "--data", tmp_path / name, "--store", tmp_path / "store")
    code, told = said(capsys, "quantize", file, *options, "-o", tmp_path / "out.onnx")
    assert code == 0, told


def test_sizes_count_external_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = np.random.default_rng(0).standard_normal((512, 1024)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])]
        for name, size in (("x", 512), ("y", 1024))
    ]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "m.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="weights/w.bin")
    options = ("-o", tmp_path / "out.onnx", "--store", tmp_path / "store")
    code, told = said(capsys, "quantize", file, *options)
    assert code == 0 and "2.10 MB → 0.53 MB" in told


def test_what_no_samples_fit_is_said_once(tmp_path: Path) -> None:
    shape = ["n", 3, 2, 2]
    node = helper.make_node("Reshape", ["x", "to"], ["y"])
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)] for n in ("x", "y")]
    to = numpy_helper.from_array(np.array([7, 12], np.int64), "to")
    graph = helper.make_graph([node], "g", *ends, [to])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(StageError, match="made-up inputs do not fit") as failure:
        made_feeds(OnnxModel(tmp_path / "m.onnx"), [(1, 5)])
    assert "onnxruntime_src" not in str(failure.value)


def test_the_kinds_are_all_tried() -> None:
    assert set(SIGNATURES) < set(GRAPHS) and set(REFUSED) < set(GRAPHS)
