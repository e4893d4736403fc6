"""The record of pruned matrices: saved, loaded, carried by surgery, and damaged."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_encoders import write_encoder

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.layers import keep_layers
from edgecompress.surgery.magnitude import choose_zeros, prunable
from edgecompress.surgery.model import load_module, save_module
from edgecompress.surgery.patterns import Pattern, read_pattern
from edgecompress.surgery.sparsity import mark, marked, shares
from edgecompress.values import TorchModel


def sparse_module(path):
    module = load_module(write_encoder(path, "Bert", "token-classification").model)
    with torch.no_grad():
        for part in prunable(module, ("linear",)).values():
            part.weight[:, ::2] = 0
            mark(part)
    return module


def test_the_record_goes_to_disk_and_back(tmp_path):
    module = sparse_module(tmp_path / "new")
    save_module(module, tmp_path / "saved")
    again = load_module(TorchModel(tmp_path / "saved"))
    assert set(marked(again)) == set(marked(module))
    assert shares(again) == shares(module)
    assert shares(again)["sparsity"] == 0.5
    plain = write_encoder(tmp_path / "plain", "Bert", "token-classification")
    assert not (plain.model.directory / "sparsity.json").exists()


def test_it_follows_layers_and_cut_matrices(tmp_path):
    module = sparse_module(tmp_path / "new")
    keep_heads_and_neurons(module, [[0, 2], [1]], [range(8, 40), range(64)])
    keep_layers(module, [1])
    model = save_module(module, tmp_path / "cut")
    names = json.loads((model.directory / "sparsity.json").read_text())["tensors"]
    assert len(names) == 6
    assert all(".layer.0." in name for name in names)
    again = load_module(model)
    assert all(bool((part.weight == 0).any()) for part in marked(again).values())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "damaged record of pruned matrices"),
        ('{"format": 1}', "damaged record"),
        ('{"format": 2, "tensors": []}', "format 2 is newer"),
        ('{"format": 1, "tensors": ["bert.nothing.weight"]}', "names bert.nothing.weight, which"),
        ('{"format": 1, "tensors": ["bert.encoder.weight"]}', "names bert.encoder.weight, which"),
    ],
)
def test_a_damaged_record(document, message, tmp_path):
    model = save_module(sparse_module(tmp_path / "new"), tmp_path / "saved")
    (model.directory / "sparsity.json").write_text(document)
    with pytest.raises(DataError, match=message):
        load_module(model)


@pytest.mark.parametrize("family", ["XLMRoberta", "Electra"])
def test_the_linear_layers_of_blocks_and_one_table(family, tmp_path):
    """ELECTRA's projection of its embeddings is none of them."""
    candidate = write_encoder(tmp_path, family, "token-classification")
    module = load_module(candidate.model)
    assert len(prunable(module, ("linear",))) == 12
    assert len(prunable(module, ("linear", "embeddings", "classifier"))) == 14


@given(
    st.integers(0, 99),
    st.floats(0.01, 0.99),
    st.sampled_from(["unstructured", "1:2", "2:4", "3:4", "2x1", "1x4", "2x4"]),
    st.sampled_from(["global", "layer"]),
)
def test_the_share_is_what_was_asked_for(seed, sparsity, text, scope):
    """Even where all magnitudes are equal; a smaller share chooses a part of a larger one's."""
    pattern = read_pattern(text)
    random = torch.Generator().manual_seed(seed)
    weights = {
        "a.weight": torch.randn(16, 8, generator=random),
        "b.weight": torch.randint(-1, 2, (8, 16), generator=random).float(),
    }
    block = pattern.rows * pattern.columns
    units = 256 // (pattern.of or block)
    asked = round(sparsity * pattern.of) * units if pattern.of else int(sparsity * units) * block
    if pattern.of and asked == 256:
        return
    try:
        chosen = choose_zeros(weights, sparsity, pattern, scope)
    except StageError as error:
        assert "would be left without a weight" in str(error)
        return
    found = sum(int(zeros.sum()) for zeros in chosen.values())
    assert asked - (2 * block if scope == "layer" else 0) <= found <= asked
    fewer = choose_zeros(weights, sparsity / 2, pattern, scope)
    assert all(bool((chosen[name] | ~fewer[name]).all()) for name in chosen)


def test_how_a_pattern_is_read():
    assert read_pattern("4x1") == Pattern(4, 1)
    assert read_pattern("2:4").sparsity == 0.5
    assert read_pattern("unstructured") == Pattern()
