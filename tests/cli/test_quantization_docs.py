"""The commands of docs/quantization.md run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from two_parts import write_samples, write_two_parts

from edgecompress.cli.main import cli

PAGE = Path(__file__).parents[2] / "docs" / "quantization.md"
COMMANDS = re.findall(r"^edgecompress (quantize .*)$", PAGE.read_text(encoding="utf-8"), re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("docs")
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.standard_normal((64, 64)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), made / "model.onnx")
    samples = random.standard_normal((10, 64)).astype(np.float32)
    np.savez(made / "calib.npz", x=samples)
    (made / "samples").mkdir()
    np.save(made / "samples" / "a.npy", samples)
    write_two_parts(made / "parts")
    write_samples(made / "samples-of-parts")
    return made


def size(place: Path) -> int:
    """Bytes of a model: a file, or the graphs of a folder."""
    return sum(f.stat().st_size for f in ([place] if place.is_file() else place.rglob("*.onnx")))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_a_smaller_model(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = shlex.split(command)
    made = CliRunner().invoke(cli, [*arguments, "--store", "store"])
    assert made.exit_code == 0, made.output
    written = folder / arguments[arguments.index("-o") + 1]
    assert size(written) < size(folder / arguments[1]) / 2


def test_all_commands_were_found() -> None:
    assert len(COMMANDS) == 6
