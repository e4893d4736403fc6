"""Every family: cut equals masked, on disk and back, in ONNX Runtime; those of third parties."""

import copy
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
import transformers
from helpers import only_layers, small_context, tagged_examples
from small_encoders import write_encoder
from torch import nn

from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe
from edgecompress.errors import DataError, RecipeError, StageError
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.inc_dynamic import IncDynamic
from edgecompress.surgery import families
from edgecompress.surgery.families import (
    Family,
    blocks,
    check_directory,
    family_named,
    family_names,
    family_of,
    layer_list,
    word_embedding,
)
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.layers import keep_layers
from edgecompress.surgery.low_rank import LowRankLinear, ranks
from edgecompress.surgery.model import load_module, save_module
from edgecompress.values import Candidate, TorchModel

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
CONFIGS = {
    "Bert": {},
    "Roberta": {},
    "XLMRoberta": {},
    "Camembert": {},
    "Electra": {"embedding_size": 16},
    "DistilBert": {"hidden_dim": 64},
    "Albert": {"embedding_size": 16},
    # A window of 2 on each side, every third layer global: what a layer sees depends on its number.
    "ModernBert": {"local_attention": 4, "global_attn_every_n_layers": 3},
}


def make(family, head="ForTokenClassification", **further):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **CONFIGS[family], **further)
    return (
        getattr(transformers, family + head)
        ._from_config(config, attn_implementation="eager")
        .eval()
    )


def answers(module):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (2, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.no_grad():
        return module(input_ids=ids, attention_mask=mask).logits


def test_each_file_is_a_family():
    assert set(family_names()) == {
        *("albert", "bert", "camembert", "deit", "distilbert"),
        *("electra", "llama", "modernbert", "qwen2", "qwen3", "roberta", "vit", "xlm-roberta"),
    }
    assert family_named("xlm-roberta").position_offset


@pytest.mark.parametrize("family", CONFIGS)
def test_cut_equals_masked(family):
    module, masked = make(family), make(family)
    for block in blocks(masked):
        with torch.no_grad():
            block.output_linear.weight[:, 8:16] = 0
            block.ffn_out_linear.weight[:, 1::2] = 0
    count = len(list(blocks(module)))
    keep_heads_and_neurons(module, [[0, 2, 3]] * count, [range(0, 64, 2)] * count)
    torch.testing.assert_close(answers(module), answers(masked), rtol=1e-4, atol=1e-5)
    first = next(blocks(module))
    assert (first.heads, first.neurons, first.head_size) == (3, 32, 8)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_squares_are_those_of_all_weights(family):
    module = make(family)
    block = next(blocks(module))
    weights = [block.linear(role).weight for role in block.family.roles]
    total = sum(weight.double().square().sum() for weight in weights)
    assert block.head_squares().shape == (4,)
    assert block.neuron_squares().shape == (64,)
    torch.testing.assert_close(block.head_squares().sum() + block.neuron_squares().sum(), total)
    block.keep_heads([1])
    block.keep_neurons([5, 7])
    small = next(blocks(make(family)))
    torch.testing.assert_close(block.head_squares(), small.head_squares()[[1]])
    torch.testing.assert_close(block.neuron_squares(), small.neuron_squares()[[5, 7]])


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForSequenceClassification"])
@pytest.mark.parametrize("family", CONFIGS)
def test_pruned_and_factorized_it_comes_back_exactly(family, head, tmp_path):
    module = make(family, head)
    uneven = [[0, 1, 2, 3], [2], [0, 3], [1, 2, 3]]
    widths = [range(64), range(3, 20), list(range(0, 64, 2)), range(8)]
    count = len(list(blocks(module)))
    keep_heads_and_neurons(module, uneven[-count:], widths[-count:])
    keep_layers(module, [0, 2, 3])
    block = list(blocks(module))[-1]
    linear = block.linear("ffn_out")
    block.set_part(
        "ffn_out", LowRankLinear.of(linear.weight[:, :4], linear.weight[:4], linear.bias)
    )
    expected = answers(module)
    model = save_module(module, tmp_path / "model")
    again = load_module(model)
    assert torch.equal(answers(again), expected)
    assert ranks(again) == ranks(module)
    assert [b.heads for b in blocks(again)] == [b.heads for b in blocks(module)]
    assert len(layer_list(again)) == 3
    save_module(again, tmp_path / "again")
    for file in ("surgery.json", "config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.mark.parametrize("family", CONFIGS)
def test_it_runs_in_onnx_runtime(family, tmp_path):
    module = make(family)
    count = len(list(blocks(module)))
    keep_heads_and_neurons(module, [[0, 3]] * count, [range(24)] * count)
    keep_layers(module, [0, 3])
    candidate = Candidate(
        save_module(module, tmp_path / "model"), task="token-classification", labels=("A", "B")
    )
    # Export compares with PyTorch on several lengths, and fails where they differ.
    exported = Export(tolerance=1e-4).apply(candidate, small_context(tmp_path / "1"))
    found = Dynamic().apply(exported, small_context(tmp_path / "2")).steps[-1].decisions
    roles = len(family_of(module.config).roles)
    assert len(found["int8_linears"]) >= 2 * roles + 1
    assert found["exceptions"] == {}


def test_layers_that_share_their_weights(tmp_path):
    module = make("Albert")
    assert len(layer_list(module)) == 4
    assert len(list(blocks(module))) == 1
    with only_layers(module, [1, 3]):
        twice = answers(module)
    keep_layers(module, [0, 1])
    assert torch.equal(answers(module), twice)
    assert len(layer_list(load_module(save_module(module, tmp_path)))) == 2
    grouped = make("Albert", num_hidden_groups=2)
    assert len(list(blocks(grouped))) == 2
    with pytest.raises(StageError, match="share their weights in groups"):
        keep_layers(grouped, [0, 3])
    assert len(layer_list(grouped)) == 4


def test_neural_compressor_refuses_shared_weights_in_words(tmp_path):
    model = save_module(make("Albert"), tmp_path / "model")
    candidate = Candidate(model, task="token-classification", labels=("A", "B"))
    with pytest.raises(StageError, match=r"albert model share their weights.*quantize\.dynamic"):
        IncDynamic().apply(candidate, small_context(tmp_path / "1"))


def attends_locally(module):
    """Which layers of a ModernBERT see a window only, as transformers 4 and 5 tell it."""
    attentions = [layer.attn for layer in layer_list(module)]
    if hasattr(attentions[0], "local_attention"):
        return [attention.local_attention == (2, 2) for attention in attentions]
    return [attention.sliding_window == 3 for attention in attentions]


def test_a_layer_keeps_what_it_attends_to(tmp_path):
    module = make("ModernBert")
    assert attends_locally(module) == [False, True, True, False]
    keep_layers(module, [1, 3])
    expected = answers(module)
    again = load_module(save_module(module, tmp_path))
    assert attends_locally(again) == [True, False]
    assert not isinstance(layer_list(again)[0].attn_norm, nn.Identity)
    assert torch.equal(answers(again), expected)
    keep_layers(again, [1])
    assert torch.equal(answers(load_module(save_module(again, tmp_path / "1"))), answers(again))


def test_a_part_that_a_family_lacks_is_named():
    block = next(blocks(make("ModernBert")))
    with pytest.raises(StageError, match=r"modernbert models have no query.*qkv, output"):
        block.part("query")
    assert block.part("qkv").out_features == 96
    wrong = copy.deepcopy(block)
    wrong = type(block)(block.module, Family("modernbert", qkv="attn.nowhere"))
    with pytest.raises(DataError, match="qkv of this modernbert model is no linear layer"):
        wrong.part("qkv")


OTHER = """
from edgecompress.surgery.families import Family

FAMILY = Family("ernie", query="attention.self.query", ffn_in="intermediate.dense")
NONSENSE = {"model_type": "ernie"}
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A third party's file, as its installed package would offer it."""

    def offer(value):
        (tmp_path / "their_family.py").write_text(OTHER)
        point = EntryPoint("ernie", value, families.GROUP)

        def found(group, name=None):
            return [point] if group == families.GROUP and name in (None, "ernie") else []

        monkeypatch.setattr(families, "entry_points", found)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "their_family", raising=False)

    return offer


def test_a_third_party_describes_one_in_a_file_of_its_own(plug_in, tmp_path):
    config = transformers.ErnieConfig(**SIZES)
    torch.manual_seed(0)
    module = transformers.ErnieForTokenClassification._from_config(
        config, attn_implementation="eager"
    ).eval()
    with pytest.raises(DataError, match="'ernie' are not supported"):
        family_of(config)
    plug_in("their_family:FAMILY")
    assert "ernie" in family_names()
    keep_heads_and_neurons(module, [[0, 2]] * 4, [range(10)] * 4)
    module.set_submodule("ernie.encoder.layer.0.intermediate.dense", LowRankLinear(32, 10, 3))
    assert word_embedding(module).num_embeddings == 60
    again = load_module(save_module(module, tmp_path / "model"))
    assert torch.equal(answers(again), answers(module))


def test_an_entry_point_must_name_a_family(plug_in):
    plug_in("their_family:NONSENSE")
    with pytest.raises(StageError, match=r"their_family:NONSENSE.*must name .*Family, not a dict"):
        family_named("ernie")


def test_an_unknown_family_is_refused_before_work_starts(tmp_path):
    with pytest.raises(DataError, match=r"'gpt2'.*list of layers, word embedding.*entry point"):
        family_named("gpt2")
    transformers.GPT2Config(vocab_size=10).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"config\.json: models of the type 'gpt2'"):
        check_directory(tmp_path)
    (tmp_path / "train.conll").write_text("".join(f"{n} B-LOC\n\n" for n in range(9)))
    recipe = tmp_path / "recipe.yaml"
    cuts = ("prune.layers: {keep: 1}", "prune.structured: {ffn: 0.5}", "factorize: {linear: 16}",
            "vocabulary.trim: {keep: 9}", "vocabulary.share: {rows: 9}")  # fmt: skip
    for cut in cuts:
        recipe.write_text(
            f"name: x\nmodel: {tmp_path}\ntask: token-classification\n"
            f"data: {{format: conll, root: {tmp_path}, train: train.conll, "
            "split: {validation: 0.2, test: 0.2}}\n"
            f"stages: [{cut}, export]\n"
        )
        with pytest.raises(RecipeError, match=r"recipe\.yaml:5: .*'gpt2' are not supported"):
            plan(load_recipe(recipe))
    (tmp_path / "config.json").write_text("{")
    check_directory(tmp_path)  # whoever opens it says what is wrong
    check_directory(tmp_path / "nowhere")


def test_real_encoders_of_two_kinds_train_alike(tmp_path):
    """Whole candidates, tokenizer and all: importance and logits go through blocks only."""
    from edgecompress.training.encoding import labelled_rows
    from edgecompress.training.importance import magnitude, taylor

    examples = tagged_examples(12)
    for family, count in (("Albert", 1), ("ModernBert", 2)):
        candidate = write_encoder(tmp_path / family, family, "token-classification")
        assert isinstance(candidate.model, TorchModel)
        module = load_module(candidate.model)
        rows = labelled_rows(candidate, examples, module)
        for found in (taylor(module, rows, lambda done: None), magnitude(module)):
            assert len(found.heads) == len(found.neurons) == count
            assert all(np.all(layer > 0) for layer in (*found.heads, *found.neurons))
