"""What a candidate is: its own files, and nothing that lies beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgecompress
from edgecompress.errors import DataError
from edgecompress.provenance import candidate_digest, closure
from edgecompress.values import Candidate, OnnxModel


@pytest.fixture
def foreign(tmp_path: Path) -> Candidate:
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((4, 1000), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    file = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), str(file), save_as_external_data=True, location="m.data")
    return Candidate(OnnxModel(file))


def test_neighbours_do_not_matter_and_external_data_does(foreign: Candidate) -> None:
    before = candidate_digest(foreign)
    (foreign.model.directory / "other.bin").write_bytes(b"new")
    assert candidate_digest(foreign) == before
    data = foreign.model.directory / "m.data"
    data.write_bytes(bytes(data.stat().st_size))
    assert candidate_digest(foreign) != before


def test_a_missing_file_is_named(foreign: Candidate) -> None:
    (foreign.model.directory / "m.data").unlink()
    with pytest.raises(DataError, match=r"m\.data: cannot be read"):
        candidate_digest(foreign)


def test_what_a_package_finds_by_itself_counts() -> None:
    """Families, tasks and formats are one file each, which nothing imports by name."""
    modules, _ = closure("edgecompress.stages.factorize")
    assert "edgecompress.surgery.families.albert" in modules
    assert "edgecompress.tasks.token_classification" in modules
    assert "edgecompress.telling" not in modules  # the report's sentences change no result


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package, to be edited."""
    root = Path(edgecompress.__file__).parent
    shutil.copytree(root, tmp_path / "edgecompress", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digest_of_distil(folder: Path) -> str:
    code = (
        "from edgecompress.provenance import code_digest; "
        "print(code_digest('edgecompress.stages.distil'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_words_about_the_code_change_no_key_and_constants_do(copied: Path) -> None:
    file = copied / "edgecompress" / "training" / "losses.py"
    source = file.read_text()
    before = digest_of_distil(copied)
    said = source.replace('"""', '"""Said better. ', 1).replace(
        "import torch\n", "import torch  # why\n"
    )
    file.write_text(said.replace('"""A score whose softmax is 0', '"""Its softmax is 0'))
    assert file.read_text() != source
    assert digest_of_distil(copied) == before
    stage = copied / "edgecompress" / "stages" / "distil.py"
    told = stage.read_text()
    assert "Trained towards" in told
    stage.write_text(told.replace("Trained towards", "Learned"))
    assert digest_of_distil(copied) == before
    assert "NOTHING = -1e9" in source
    file.write_text(source.replace("NOTHING = -1e9", "NOTHING = -1e8"))
    assert digest_of_distil(copied) != before


@pytest.mark.parametrize(
    "name",
    [
        *(f"quantize.{scheme}" for scheme in ("dynamic", "static", "weights", "smooth", "half")),
        *("quantize.auto", "fuse", "tune.graph", "tune.session"),
    ],
)
def test_what_takes_onnx_hangs_on_no_torch_and_on_nothing_above_the_stages(name: str) -> None:
    modules, libraries = closure(f"edgecompress.stages.{name}")
    assert "onnxruntime" in libraries and "torch" not in libraries
    rooms = {module.split(".")[1] for module in modules if "." in module}
    assert not rooms & {"api", "cli", "engine", "report", "bundle", "service", "training"}
