"""Students of a new shape: which weights of the model before they begin with."""

import pytest
import torch
import transformers

from edgecompress.errors import StageError
from edgecompress.surgery.families import blocks
from edgecompress.surgery.model import load_module, save_module
from edgecompress.training.student_shape import StudentShape

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
    "num_labels": 3,
}
OTHER = {"Electra": {"embedding_size": 32}, "ModernBert": {"reference_compile": False}}
FAMILIES = ("Bert", "XLMRoberta", "Electra", "DistilBert", "ModernBert")


@pytest.fixture(params=FAMILIES)
def model(request, tmp_path):
    names = transformers.AutoConfig.for_model("distilbert").attribute_map
    sizes = {**SIZES, **OTHER.get(request.param, {})}
    if request.param == "DistilBert":
        sizes = {names.get(key, key): value for key, value in sizes.items()}
        sizes["hidden_dim"] = sizes.pop("intermediate_size")
    config = getattr(transformers, f"{request.param}Config")(**sizes)
    torch.manual_seed(0)
    module = getattr(transformers, f"{request.param}ForTokenClassification")(config).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return save_module(module, tmp_path / "model")


def test_the_same_shape_is_the_same_model(model):
    before, after = load_module(model).state_dict(), StudentShape().make(model, 1).state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_a_smaller_one_begins_with_the_largest_of_evenly_spread_layers(model, tmp_path):
    module = load_module(model)
    # Whatever writes or reads these is made large, so that it is known what will be kept.
    heads, neurons, channels = [1, 3], [5, 7, 20], [*range(0, 16, 2), *range(16, 24)]
    with torch.no_grad():
        for block in blocks(module):
            size = block.head_size
            for head in heads:
                block.part("output").weight[:, head * size : (head + 1) * size] *= 3
            block.part("ffn_out").weight[:, neurons] *= 50
            for role in ("output", "ffn_out"):
                block.part(role).weight[channels] *= 9
    source = save_module(module, tmp_path / "known")
    small = StudentShape(layers=2, hidden_size=16, heads=2, intermediate_size=3).make(source, 1)
    assert [block.heads for block in blocks(small)] == [2, 2]
    before = list(blocks(module))
    for block, origin in zip(blocks(small), (before[0], before[3]), strict=True):
        taken = [h * 8 + i for h in heads for i in range(8)]
        expected = origin.part("output").weight[channels][:, taken]
        assert torch.equal(block.part("output").weight, expected)
        expected = origin.part("ffn_out").weight[channels][:, neurons]
        assert torch.equal(block.part("ffn_out").weight, expected)
        role = "qkv" if block.family.qkv else "query"
        expected = origin.part(role).weight[taken][:, channels]
        assert torch.equal(block.part(role).weight[:16], expected)
    words = module.get_input_embeddings().weight[:, channels]
    assert torch.equal(small.get_input_embeddings().weight, words)
    ids = torch.tensor([[3, 7, 9, 4]])
    assert small(input_ids=ids).logits.shape == (1, 4, 3)
    saved = save_module(small, tmp_path / "small")
    again = load_module(saved)
    assert torch.equal(again(input_ids=ids).logits, small(input_ids=ids).logits)


def test_new_weights_depend_on_the_seed_alone(model):
    shape = StudentShape(layers=2, hidden_size=24, heads=3, intermediate_size=30, init="random")
    one, two, other = (shape.make(model, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_larger_one_takes_what_fits(model):
    large = StudentShape(layers=5, heads=8, intermediate_size=60).make(model, 1)
    assert torch.isfinite(large(input_ids=torch.tensor([[3, 7]])).logits).all()
    found = [block.part("ffn_in").weight for block in blocks(large)]
    origin = [block.part("ffn_in").weight for block in blocks(load_module(model))]
    assert torch.equal(found[1][:48], origin[1][:48]) or len(found[1]) == 120


def test_heads_that_do_not_divide(model):
    with pytest.raises(StageError, match="4 heads do not divide the hidden size 30"):
        StudentShape(hidden_size=30).make(model, 1)
