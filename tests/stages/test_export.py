"""`export`: the same numbers as PyTorch on every shape, and a file that says so."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples
from small_encoders import torch_logits, write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.prove.proof import check_model
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.surgery.model import load_module
from edgecompress.surgery.onnx_export import optimum_is_installed
from edgecompress.values import OnnxModel

DATA = {"token-classification": tagged_examples, "text-classification": labelled_texts}


@pytest.mark.parametrize(
    ("family", "task", "uneven"),
    [
        ("Bert", "token-classification", True),
        ("Bert", "text-classification", False),
        ("XLMRoberta", "token-classification", False),
        ("XLMRoberta", "text-classification", True),
    ],
)
def test_it_answers_as_pytorch_does(tmp_path, family, task, uneven):
    candidate = write_encoder(tmp_path / "torch", family, task, uneven=uneven)
    context = small_context(tmp_path / "run", validation=DATA[task](24))
    made = check_stage(Export(), candidate, context)
    check_model(made.model)
    parity = made.steps[-1].decisions["parity"]
    assert parity["max_abs_difference"] < 1e-4
    assert len({length for _, length in parity["shapes"]}) >= 2
    assert parity["shapes"][-1][0] == 4
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(candidate, DATA[task](10, seed=5), names)
    for logits, feed in zip(expected, feeds, strict=True):
        assert np.abs(session.run(None, feed)[0] - logits).max() < 1e-4
    assert all(isinstance(size, str) for spec in input_specs(session) for size in spec.shape)
    assert sorted(file.name for file in context.folder.rglob("*") if file.is_file()) == [
        "model.onnx"
    ]


def test_pruned_heads_make_the_file_smaller(tmp_path):
    sizes = []
    for uneven in (False, True):
        candidate = write_encoder(
            tmp_path / f"t{uneven}", "Bert", "token-classification", uneven=uneven
        )
        made = Export().apply(candidate, small_context(tmp_path / f"r{uneven}"))
        sizes.append(made.model.path.stat().st_size)
    assert sizes[1] < sizes[0]


def test_without_data_made_up_ids_are_compared(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "token-classification")
    made = Export().apply(candidate, small_context(tmp_path / "run"))
    assert made.steps[-1].decisions["parity"]["shapes"] == [[1, 5], [1, 11], [3, 9]]


def test_a_difference_above_the_tolerance_stops_the_chain(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "token-classification")
    with pytest.raises(StageError, match=r"differs from PyTorch by .* more than the tolerance"):
        Export(tolerance=1e-12).apply(candidate, small_context(tmp_path / "run"))


@pytest.mark.parametrize("exporter", ["dynamo", "optimum"])
def test_nodes_are_named_after_modules_and_files_are_the_same_again(tmp_path, exporter):
    if exporter == "optimum" and not optimum_is_installed():
        with pytest.raises(StageError, match=r"does not run here .* use `exporter: dynamo`"):
            run_export(tmp_path, exporter)
        return
    made, again = run_export(tmp_path / "a", exporter), run_export(tmp_path / "b", exporter)
    assert made.steps[-1].decisions["exporter"] == exporter
    data = made.model.path.read_bytes()
    assert data == again.model.path.read_bytes()
    assert str(tmp_path).encode() not in data
    assert b"site-packages" not in data
    names = {node.name for node in onnx.load(made.model.path).graph.node}
    for part in ("attention/self/query", "attention/output/dense", "output/dense"):
        assert f"/bert/encoder/layer.1/{part}/MatMul" in names


def run_export(folder, exporter):
    candidate = write_encoder(folder / "torch", "Bert", "token-classification")
    return Export(exporter=exporter).apply(candidate, small_context(folder / "run"))


def test_without_optimum_its_exporter_is_refused_in_one_sentence(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "token-classification")
    program = (
        "import sys; sys.modules['optimum'] = None\n"
        "from pathlib import Path\n"
        "from edgecompress.surgery.model import load_module\n"
        "from edgecompress.surgery.onnx_export import export_with_optimum\n"
        "from edgecompress.values import TorchModel\n"
        "module = load_module(TorchModel(Path(sys.argv[1])))\n"
        "export_with_optimum(module, 'token-classification', Path(sys.argv[2]))\n"
    )
    arguments = [str(candidate.model.directory), str(tmp_path / "out" / "model.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "StageError: Optimum's exporter does not run here" in last
    assert last.endswith(
        "(it is not installed): use `exporter: dynamo`, or an environment of its own that "
        "has the extra `optimum` and transformers 4.57"
    )
    assert not (tmp_path / "out").exists()


class Numbers(torch.nn.Module):
    """What Optimum does not know: sequences of numbers in, two named outputs out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(1, 8), torch.nn.Linear(8, 3)

    def forward(self, values, seen):
        hidden = self.inner(values[..., None]).relu() * seen[..., None]
        return {"logits": self.outer(hidden.sum(1)), "hidden": hidden}


def test_any_module_of_named_tensors_is_exported(tmp_path):
    module = Numbers().eval()
    example = {"values": torch.randn(2, 7), "seen": torch.ones(2, 7)}
    axes = {name: {0: "batch", 1: "length"} for name in example}
    for outputs in (("hidden",), ("logits", "hidden")):
        path = tmp_path / str(len(outputs)) / "model.onnx"
        export_module(module, Traced(example, axes, outputs), path, 18)
        session = open_session(OnnxModel(path))
        feed = {"values": torch.randn(3, 4), "seen": torch.ones(3, 4)}
        found = session.run(None, {name: value.numpy() for name, value in feed.items()})
        assert [each.name for each in session.get_outputs()] == [*outputs]
        for name, array in zip(outputs, found, strict=True):
            assert np.allclose(array, module(**feed)[name].detach(), atol=1e-5)
    assert [each.shape for each in session.get_inputs()] == [["batch", "length"]] * 2
    with pytest.raises(StageError, match="this model gives logits, hidden, and no classes"):
        export_module(module, Traced(example, axes, ("classes",)), tmp_path / "x.onnx", 18)


class Again(torch.nn.Module):
    """Two layers that run twice; of weights as large as the second's the exporter folds no turn."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.small, self.large = torch.nn.Linear(16, 16), torch.nn.Linear(96, 96)

    def forward(self, x):
        small = self.small(self.small(x).tanh())
        return self.large(self.large(small.repeat(1, 1, 6)).tanh())


def test_weights_of_a_layer_that_runs_again_are_written_once(tmp_path):
    module = Again().eval()
    path = tmp_path / "model.onnx"
    traced = Traced({"x": torch.randn(2, 3, 16)}, {"x": {0: "batch"}}, ("y",))
    export_module(module, traced, path, 18)
    graph = onnx.load(path).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    assert matrices == {"small.weight_transposed", "large.weight_transposed"}
    read = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
    assert sorted(read) == sorted([*matrices, *matrices])
    assert all(node.op_type != "Transpose" for node in graph.node)
    feed = torch.randn(5, 3, 16)
    with torch.no_grad():
        expected = module(feed).numpy()
    found = open_session(OnnxModel(path)).run(None, {"x": feed.numpy()})[0]
    assert np.abs(found - expected).max() < 1e-5


def test_what_cannot_be_traced_is_one_sentence(tmp_path):
    class Branching(torch.nn.Module):
        def forward(self, values):
            return values if values.sum() > 0 else -values

    with pytest.raises(StageError, match=r"PyTorch could not export this model \(.+\)$") as told:
        traced = Traced({"values": torch.randn(2, 7)}, {}, ("out",))
        export_module(Branching(), traced, tmp_path / "model.onnx", 18)
    assert "\n" not in str(told.value)


def test_a_table_that_the_last_layer_is_tied_to_is_stored_once(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "masked-lm")
    made = Export(exporter="dynamo").apply(candidate, small_context(tmp_path / "run"))
    graph = onnx.load(made.model.path).graph
    pieces = load_module(candidate.model).config.vocab_size
    assert len([t for t in graph.initializer if len(t.dims) == 2 and pieces in t.dims]) == 1
