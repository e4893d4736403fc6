"""Magnitude pruning: the right weights become zero, in their pattern, and what is refused."""

import re
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.cli.one_stage import prune as command
from edgecompress.engine.recipe import build_recipe
from edgecompress.errors import RecipeError, StageError
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.magnitude import Magnitude
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.surgery.magnitude import prunable
from edgecompress.surgery.model import load_module
from edgecompress.surgery.sparsity import marked
from edgecompress.targets.size import size_measurements
from edgecompress.values import Candidate
from edgecompress.yamlfile import YamlFile, apply_settings

TRAIN = tagged_examples(60, 1)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("new"), TRAIN, "token-classification")


def pruned(student, path, **fields):
    result = check_stage(Magnitude(**fields), student, small_context(path))
    return result.steps[-1].decisions, load_module(result.model)


def zeros_of(module):
    return {name: part.weight == 0 for name, part in marked(module).items()}


def test_the_smallest_weights_of_all_matrices_go(student, tmp_path):
    decisions, module = pruned(student, tmp_path, sparsity=0.7)
    before = prunable(load_module(student.model), ("linear",))
    assert decisions["weights"] == sum(part.weight.numel() for part in before.values())
    assert decisions["zeros"] == int(0.7 * decisions["weights"])
    assert decisions["sparsity"] == pytest.approx(0.7, abs=1e-3)
    assert decisions["sparsity_of_model"] < 0.7
    assert "no inference gets faster" in decisions["gains"]
    zeros = zeros_of(module)
    assert set(zeros) == set(before) == set(decisions["tensors"])
    gone = torch.cat([before[name].weight[zeros[name]].abs() for name in zeros])
    kept = torch.cat([before[name].weight[~zeros[name]].abs() for name in zeros])
    assert gone.max() <= kept.min()
    for name, part in marked(module).items():
        assert torch.equal(part.weight[~zeros[name]], before[name].weight[~zeros[name]])
    assert not any("classifier" in name or "embeddings" in name for name in zeros)


def test_global_and_layer_differ(student, tmp_path):
    """Matrices with larger weights lose fewer of them, unless each has its own share."""
    from dataclasses import replace

    from edgecompress.surgery.families import blocks
    from edgecompress.surgery.model import save_module

    module = load_module(student.model)
    with torch.no_grad():
        next(blocks(module)).part("ffn_in").weight.mul_(10)
    loud = replace(student, model=save_module(module, tmp_path / "loud"))
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    by_layer, _ = pruned(loud, tmp_path / "layer", sparsity=0.5, scope="layer")
    over_all, _ = pruned(loud, tmp_path / "global", sparsity=0.5)
    assert set(by_layer["tensors"].values()) == {0.5}
    assert over_all["tensors"][name] < 0.1
    assert over_all["sparsity"] == pytest.approx(by_layer["sparsity"], abs=1e-3)


@pytest.mark.parametrize(("pattern", "keep", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("6:8", 6, 8)])
def test_n_of_every_m_stay(pattern, keep, of, student, tmp_path):
    decisions, module = pruned(student, tmp_path, pattern=pattern)
    assert decisions["sparsity"] == pytest.approx(1 - keep / of)
    before = prunable(load_module(student.model), ("linear",))
    for name, part in marked(module).items():
        groups = part.weight.reshape(-1, of)
        assert torch.equal((groups != 0).sum(1), torch.full((len(groups),), keep))
        old = before[name].weight.abs().reshape(-1, of).sort(dim=1, descending=True).values
        assert torch.allclose(groups.abs().sum(1), old[:, :keep].sum(1))


@pytest.mark.parametrize(("rows", "columns"), [(4, 1), (16, 1), (1, 8), (4, 4)])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_blocks_go_as_a_whole(rows, columns, scope, student, tmp_path):
    pattern = f"{rows}x{columns}"
    decisions, module = pruned(student, tmp_path, sparsity=0.6, pattern=pattern, scope=scope)
    assert decisions["sparsity"] == pytest.approx(0.6, abs=0.02)
    for zeros in zeros_of(module).values():
        blocks = zeros.view(zeros.shape[0] // rows, rows, -1, columns).sum((1, 3))
        assert set(blocks.flatten().tolist()) == {0, rows * columns}


def test_embeddings_and_the_head_when_asked_for(student, tmp_path):
    matrices = ("embeddings", "classifier")
    decisions, _ = pruned(student, tmp_path, sparsity=0.5, matrices=matrices, scope="layer")
    assert decisions["tensors"] == {
        "bert.embeddings.word_embeddings.weight": 0.5,
        "classifier.weight": 0.5,
    }


def test_pruned_again_what_is_zero_stays(student, tmp_path):
    first = check_stage(Magnitude(sparsity=0.4), student, small_context(tmp_path / "1"))
    second = check_stage(Magnitude(sparsity=0.8), first, small_context(tmp_path / "2"))
    early, late = zeros_of(load_module(first.model)), zeros_of(load_module(second.model))
    assert all(bool((late[name] | ~early[name]).all()) for name in early)
    assert second.steps[-1].decisions["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_a_pooler_is_part_of_the_encoder(tmp_path):
    student = tiny_teacher(tmp_path / "new", labelled_texts(40, 1), "text-classification")
    decisions, _ = pruned(student, tmp_path, sparsity=0.5)
    assert "bert.pooler.dense.weight" in decisions["tensors"]
    assert not any("classifier" in name for name in decisions["tensors"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"pattern": "5:7"},
            r"layer\.0\.attention.* has 32 inputs, which the pattern 5:7 does not",
        ),
        ({"sparsity": 0.5, "pattern": "24x1"}, r"is 32 × 32 .*blocks of 24x1 do not divide"),
        ({"sparsity": 0.9999}, r"\.weight would be left without a weight at sparsity 0.9999"),
        ({"sparsity": 0.97, "pattern": "32x32"}, r"without a weight .* smaller blocks"),
    ],
)
def test_what_cannot_be_pruned_so(fields, message, student, tmp_path):
    with pytest.raises(StageError, match=message):
        Magnitude(**fields).apply(student, small_context(tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give sparsity"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": 0}, "greater than 0"),
        ({"sparsity": 0.5, "pattern": "half"}, "'half' is no pattern; write unstructured, N:M"),
        ({"pattern": "4:4"}, "keeps 4 of every 4 weights"),
        ({"pattern": "0x4", "sparsity": 0.5}, "has no weight"),
        ({"pattern": "2:4", "sparsity": 0.7}, "the pattern 2:4 makes 0.5 of the weights zero"),
        ({"sparsity": 0.5, "matrices": ()}, "at least 1"),
        ({"sparsity": 0.5, "matrices": ("biases",)}, "biases"),
    ],
)
def test_fields_are_checked_when_it_is_made(fields, message):
    with pytest.raises(ValidationError, match=message):
        Magnitude(**fields)


def test_a_bare_pattern_in_yaml_is_no_number_of_base_60():
    fields = apply_settings({}, ["pattern=2:4"])
    assert Magnitude(**fields).pattern == "2:4"
    document = {"name": "single", "task": "token-classification", "model": "somewhere"}
    document["stages"] = [{"prune.magnitude": {"pattern": 2 * 60 + 4}}]
    recipe = build_recipe(YamlFile(document, None, {}), complete=False)
    assert "2:4" in str(recipe.chains[0])


def int8_of(candidate, path):
    """Export and quantize dynamically; give the int8 model."""
    exported = Export().apply(candidate, small_context(path / "e", train=TRAIN, validation=TRAIN))
    return Dynamic().apply(exported, small_context(path / "q"))


def zero_shares(candidate):
    """The share of exact zeros in each int8 matrix, which its zero point stands for."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(candidate.model.path).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found = []
    for name, array in arrays.items():
        pruned = "position_embeddings" not in name and "token_type" not in name
        if pruned and array.ndim == 2 and array.dtype in (np.int8, np.uint8):
            base = name.removesuffix("_quantized")
            found.append(float((array == arrays[f"{base}_zero_point"]).mean()))
    return sorted(found)


def test_zeros_stay_zeros_in_int8_and_make_the_download_smaller(student, tmp_path):
    """Trained, exported and quantized: as many zeros as were pruned, and fewer bytes to send."""
    downloads, sizes = [], []
    for sparsity in (0.3, 0.6, 0.9):
        path = tmp_path / str(sparsity)
        fields = {"sparsity": sparsity, "scope": "layer", "matrices": ("linear", "embeddings")}
        sparse = Magnitude(**fields).apply(student, small_context(path / "p"))
        tuned = Finetune(epochs=1).apply(sparse, small_context(path / "f", train=TRAIN))
        small = int8_of(tuned, path)
        shares = zero_shares(small)
        assert len(shares) == 20  # and the head, which is not pruned
        assert shares[1] >= sparsity - 0.01
        found = {m.metric: m.value for m in size_measurements(small.model, None)}
        downloads.append(found["download_size"])
        sizes.append(found["size"])
    assert downloads[0] > 1.1 * downloads[1] > 1.2 * downloads[2], downloads
    assert max(sizes) - min(sizes) < 0.01 * max(sizes)


def test_the_command_shows_what_is_gained(student, tmp_path):
    directory = tmp_path / "candidate"
    directory.mkdir()
    shutil.copytree(student.model.directory, directory / "model")
    shutil.copytree(student.preprocessor, directory / "preprocessor")
    student.save(directory)
    arguments = [str(directory), "--method", "magnitude", "--set", "sparsity=0.9"]
    arguments += ["-o", str(tmp_path / "sparse"), "--store", str(tmp_path / "store")]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    before, after = re.search(r"download: ([\d.]+) MB → ([\d.]+) MB", result.output).groups()
    assert float(after) < float(before)
    assert len(marked(load_module(Candidate.load(tmp_path / "sparse").model))) == 18
    arguments[4] = "pattern=half"
    with pytest.raises(RecipeError, match=r"pattern: 'half' is no pattern"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_a_model_directory_keeps_its_record_when_it_is_brought_in(student, tmp_path):
    from edgecompress.training.teacher import import_teacher

    sparse = Magnitude(sparsity=0.5).apply(student, small_context(tmp_path / "p"))
    for file in student.preprocessor.iterdir():
        shutil.copy(file, sparse.model.directory)
    model = str(sparse.model.directory)
    again = import_teacher(model, "token-classification", None, tmp_path / "again")
    assert len(marked(load_module(again.model))) == 18
