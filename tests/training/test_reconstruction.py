"""Least-squares reconstruction: it solves what it says, and held-out outputs come nearer."""

import copy

import numpy as np
import pytest
import torch
from helpers import small_context, tagged_examples, tiny_teacher
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.stages.finetune import Finetune
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.hidden import keep_hidden
from edgecompress.surgery.model import load_module
from edgecompress.training.encoding import make_rows
from edgecompress.training.normal_equations import Normal
from edgecompress.training.reconstruction import Remains, check_fits, reconstruct

TRAIN = tagged_examples(120, 1)
HELD_OUT = tagged_examples(40, 2)


def test_normal_equations_are_those_of_ridge_regression():
    chance = np.random.default_rng(0)
    x, lack = chance.standard_normal((200, 6)), chance.standard_normal((200, 3))
    normal = Normal(6, 3)
    for part in np.array_split(np.arange(200), 7):
        normal.add(torch.tensor(x[part]).float(), torch.tensor(lack[part]).float())
    weight, bias = normal.solve(0.5)
    wide = np.hstack([x, np.ones((200, 1))])
    strength = 0.5 * np.square(x).sum(0).mean()
    gram = wide.T @ wide + np.diag([strength] * 6 + [0.0])
    expected = np.linalg.solve(gram, wide.T @ lack)
    np.testing.assert_allclose(weight.numpy(), expected[:-1].T, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), expected[-1], atol=1e-5)
    left = np.square(lack - wide @ expected).sum()
    assert normal.left(weight, bias) == pytest.approx(left, rel=1e-4)
    stiff, _ = normal.solve(1e9)
    assert stiff.abs().max() < 1e-6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    student = tiny_teacher(path / "new", TRAIN, "token-classification")
    return Finetune(epochs=3, learning_rate=3e-3).apply(student, small_context(path, train=TRAIN))


def distance(module, original, rows):
    """Mean squared distance of the logits on text that nothing was fitted to."""
    pairs = zip(rows.outputs(module), rows.outputs(original), strict=True)
    return float(np.mean([np.square(ours - its).mean() for ours, its in pairs]))


@pytest.mark.parametrize("hidden", [None, [*range(8), *range(8, 32, 2)]])
def test_held_out_answers_come_nearer(trained, hidden):
    original = load_module(trained.model)
    heads, neurons = [[0, 2, 3], [1, 2], [0, 1, 3]], [list(range(0, 64, 2))] * 3
    cut = copy.deepcopy(original)
    if hidden is not None:
        keep_hidden(cut, hidden)
    keep_heads_and_neurons(cut, heads, neurons)
    fitted = copy.deepcopy(cut)
    rows = make_rows(trained, TRAIN, original)
    remains = Remains(heads, neurons, hidden)
    weights = {name: value.clone() for name, value in original.state_dict().items()}
    done = []
    report = reconstruct(fitted, original, rows, remains, 1e-3, done.append)
    assert done == [1, 2, 3]
    held_out = make_rows(trained, HELD_OUT, original)
    assert distance(fitted, original, held_out) < 0.5 * distance(cut, original, held_out)
    for block in report:
        assert all(fit["after"] <= fit["before"] for fit in block.values())
        assert {"output", "ffn_out"} <= set(block)
    for name, value in original.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_whole_model_stays_as_it_is(trained):
    original = load_module(trained.model)
    module = copy.deepcopy(original)
    rows = make_rows(trained, TRAIN[:30], original)
    reconstruct(module, original, rows, Remains([range(4)] * 3, [range(64)] * 3), 1e-3, print)
    held_out = make_rows(trained, HELD_OUT, original)
    assert distance(module, original, held_out) < 1e-8


@pytest.mark.parametrize("family", ["ModernBert", "DistilBert", "Electra"])
def test_other_families(family, tmp_path):
    """Blocks that normalize first, and blocks under other names."""
    import transformers

    base = write_encoder(tmp_path, "Bert", "token-classification")
    torch.manual_seed(0)
    shape = {"vocab_size": load_module(base.model).config.vocab_size, "initializer_range": 0.2}
    if family == "DistilBert":
        shape |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        shape |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"intermediate_size": 64, "pad_token_id": 0}
    if family == "ModernBert":
        shape |= {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**shape, num_labels=3)
    cls = getattr(transformers, f"{family}ForTokenClassification")
    original = cls._from_config(config, attn_implementation="eager").eval()
    cut = copy.deepcopy(original)
    heads, neurons, hidden = [[0, 1, 3], [2, 3]], [list(range(48))] * 2, list(range(28))
    keep_hidden(cut, hidden)
    keep_heads_and_neurons(cut, heads, neurons)
    fitted = copy.deepcopy(cut)
    rows = make_rows(base, TRAIN, original)
    reconstruct(fitted, original, rows, Remains(heads, neurons, hidden), 1e-3, lambda done: None)
    held_out = make_rows(base, HELD_OUT, original)
    assert distance(fitted, original, held_out) < 0.7 * distance(cut, original, held_out)


def test_shared_layers_are_refused():
    import transformers

    config = transformers.AlbertConfig(
        vocab_size=60, hidden_size=32, num_attention_heads=4, intermediate_size=48,
        embedding_size=16, num_hidden_layers=3,
    )  # fmt: skip
    with pytest.raises(StageError, match=r"share their weights.*reconstruct: false"):
        check_fits(transformers.AlbertForTokenClassification(config))
