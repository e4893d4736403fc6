"""Decoders whose queries share keys: cut equals masked, on disk and back, healed, exported."""

import json

import numpy as np
import pytest
import torch
import transformers
from helpers import small_context
from language_models import TEXTS, write_language_model
from torch import nn

from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe
from edgecompress.errors import RecipeError
from edgecompress.stages.distil import Distil
from edgecompress.stages.export import Export
from edgecompress.stages.factorize import Factorize
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.stages.prune.magnitude import Magnitude
from edgecompress.stages.prune.structured import Structured
from edgecompress.surgery.families import blocks, layer_list
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.hidden import keep_hidden
from edgecompress.surgery.layers import keep_layers
from edgecompress.surgery.model import load_module, save_module
from edgecompress.training.encoding import make_rows
from edgecompress.training.importance import magnitude, mask_gradients
from edgecompress.training.lora import adapted
from edgecompress.training.student_shape import StudentShape
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Example

FAMILIES = ("Llama", "Qwen2", "Qwen3")
EXAMPLES = tuple(Example({"text": text}) for text in TEXTS)
IDS = torch.tensor([[5, 9, 200, 17, 33, 8, 120], [7, 7, 90, 3, 4, 61, 2]])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A checkpoint of each family: four query heads, which read two keys, and three layers."""
    root = tmp_path_factory.mktemp("decoders")
    for family in FAMILIES:
        write_language_model(root / family, family, num_hidden_layers=3)
    return root


@pytest.fixture(scope="module")
def llama(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return import_teacher(str(checkpoints / "Llama"), "text-generation", None, folder)


def opened(folder):
    found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    return found.eval()


def logits(module):
    with torch.no_grad():
        return module(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_equals_masked_and_comes_back_exactly(family, checkpoints, tmp_path):
    module, masked = opened(checkpoints / family), opened(checkpoints / family)
    block = next(blocks(module))
    assert (block.heads, block.group, block.head_size, block.neurons) == (2, 2, 16, 64)
    total = sum(block.part(role).weight.double().square().sum() for role in block.family.roles)
    torch.testing.assert_close(block.head_squares().sum() + block.neuron_squares().sum(), total)
    with torch.no_grad():
        for number, each in enumerate(blocks(masked)):
            if number == 1:  # the first key's two queries
                each.output_linear.weight[:, :32] = 0
            each.ffn_out_linear.weight[:, 1::2] = 0
    halves = [range(0, 64, 2)] * 3
    keep_heads_and_neurons(module, [[0, 1], [1], [0, 1]], halves)
    expected = logits(module)
    torch.testing.assert_close(expected, logits(masked), rtol=1e-4, atol=1e-4)
    again = load_module(save_module(module, tmp_path / "uneven"))
    assert json.loads((tmp_path / "uneven/surgery.json").read_text())["heads"] == [2, 1, 2]
    assert torch.equal(logits(again), expected)
    # What is alike in all layers is said by the configuration alone.
    keep_heads_and_neurons(module, [[1], [0], [0]], [range(32)] * 3)
    keep_layers(module, [0, 2])
    keep_hidden(module, range(24))
    assert module.lm_head.weight is module.model.embed_tokens.weight
    save_module(module, tmp_path / "even")
    assert not (tmp_path / "even/surgery.json").exists()
    theirs = opened(tmp_path / "even")
    torch.testing.assert_close(logits(theirs), logits(module))
    assert (theirs.config.num_attention_heads, theirs.config.num_key_value_heads) == (2, 1)
    assert (theirs.config.hidden_size, theirs.config.intermediate_size) == (24, 32)


def test_what_importance_says_is_what_masking_does(llama):
    module = load_module(llama.model)
    rows = make_rows(llama, EXAMPLES[:2], module)
    found = mask_gradients(module, rows, lambda _: None)
    assert [one.shape for one in found.heads] == [(len(rows), 2)] * 3
    block = list(blocks(module))[1]
    small = 1e-3

    def loss():
        batch = range(len(rows))
        targets = rows.targets(batch)["labels"]
        with torch.no_grad():
            output = module(**rows.feed(batch)).logits
        each = nn.functional.cross_entropy(
            output.flatten(0, 1), torch.from_numpy(targets).flatten(), reduction="none"
        ).view(targets.shape)
        return (each.sum(1) / torch.from_numpy(targets != -100).sum(1)).double()

    before = loss()
    with torch.no_grad():
        block.output_linear.weight[:, 32:] *= 1 + small
    np.testing.assert_allclose(
        ((loss() - before) / small).numpy(), found.heads[1][:, 1], rtol=0.05, atol=2e-3
    )
    assert all(np.all(one > 0) for one in magnitude(module).heads)


def test_what_is_cut_and_fitted_answers_from_its_cache(llama, tmp_path):
    context = small_context(tmp_path / "cut", train=EXAMPLES)
    stage = Structured(heads=0.3, ffn=0.4, hidden=0.2, multiple_of=8)
    cut = stage.apply(llama, context)
    decisions = cut.steps[-1].decisions
    assert sum(map(len, decisions["heads"])) == 5
    assert all(
        part["after"] <= part["before"]
        for block in cut.steps[-1].measured["reconstruction"]
        for part in block.values()
    )
    alike = Structured(ffn=0.4, scope="layer", multiple_of=8, importance="magnitude")
    same = alike.apply(llama, small_context(tmp_path / "alike", train=EXAMPLES))
    assert same.steps[-1].decisions["neurons"] == [32] * 3
    assert opened(same.model.directory).config.intermediate_size == 32
    module = load_module(cut.model)
    assert [block.heads for block in blocks(module)] == [len(kept) for kept in decisions["heads"]]
    # The export compares with PyTorch, and what it says from its cache with all at once.
    exported = Export(kernels=True).apply(cut, small_context(tmp_path / "export", train=EXAMPLES))
    assert exported.steps[-1].decisions["parity"]["max_abs_difference"] < 1e-3


@pytest.mark.parametrize("measure", ["loss", "influence"])
def test_layers_leave_by_what_they_do(measure, llama, tmp_path):
    """A layer that adds nothing to the states is the first to go."""
    module = load_module(llama.model)
    idle = list(blocks(module))[1]
    with torch.no_grad():
        idle.output_linear.weight.zero_()
        idle.ffn_out_linear.weight.zero_()
    candidate = llama.with_model(save_module(module, tmp_path / "model"))
    context = small_context(tmp_path / "cut", train=EXAMPLES)
    cut = Layers(keep=2, measure=measure).apply(candidate, context)
    assert cut.steps[-1].decisions["kept"] == [0, 2]
    assert len(layer_list(load_module(cut.model))) == 2
    torch.testing.assert_close(logits(load_module(cut.model)), logits(module))


def test_zeros_stand_where_weights_meet_small_inputs(llama, tmp_path):
    stage = Magnitude(pattern="2:4", importance="activations", samples=2)
    found = stage.apply(llama, small_context(tmp_path, train=EXAMPLES[:2]))
    before, after = load_module(llama.model), load_module(found.model)
    layer = before.model.layers[1].mlp.down_proj
    seen = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, 1)))
    for example in range(2):  # alone, so that nothing is padded
        module_rows = make_rows(llama, EXAMPLES[example : example + 1], before)
        for number in range(len(module_rows)):
            with torch.no_grad():
                before(**module_rows.feed([number]))
    score = layer.weight.abs() * torch.cat(seen).square().mean(0).sqrt()
    two = score.view(-1, 4).topk(2).indices.sort().values
    left = after.model.layers[1].mlp.down_proj.weight.view(-1, 4)
    assert torch.equal(left.abs().topk(2).indices.sort().values, two)
    assert int((left == 0).sum()) == left.numel() // 2


@pytest.mark.parametrize("zeros", [False, True])
def test_products_beside_the_matrices_are_merged(zeros, llama, tmp_path):
    context = small_context(tmp_path / "heal", train=EXAMPLES, validation=EXAMPLES[:2])
    candidate = llama
    if zeros:
        candidate = Magnitude(pattern="2:4").apply(llama, small_context(tmp_path / "zeros"))
    lora = {"rank": 4, "only": ["query", "ffn_gate", "ffn_out"]}
    stage = Finetune(epochs=3, learning_rate=0.02, batch_size=2, lora=lora)
    healed = stage.apply(candidate, context)
    losses = healed.steps[-1].decisions["losses"]
    assert losses[-1] < losses[0]
    before, after = load_module(candidate.model), load_module(healed.model)
    for old, new in zip(blocks(before), blocks(after), strict=True):
        for role in old.family.roles:
            assert type(new.part(role)) is nn.Linear
            change = (new.part(role).weight - old.part(role).weight).double()
            assert (role in lora["only"]) == bool(change.any())
            if zeros:
                assert not change[old.part(role).weight == 0].any()
            else:
                assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 4
    assert torch.equal(before.model.norm.weight, after.model.norm.weight)
    assert torch.equal(before.lm_head.weight, after.lm_head.weight)
    with adapted(before, stage.lora, 7):
        for part in before.modules():
            if hasattr(part, "up"):
                nn.init.normal_(part.up, std=0.1)
        beside = logits(before)
    torch.testing.assert_close(logits(before), beside, rtol=1e-4, atol=1e-4)


def test_a_cut_model_learns_from_the_whole_one(llama, tmp_path):
    context = small_context(tmp_path / "taught", train=EXAMPLES, validation=EXAMPLES, teacher=llama)
    cut = Structured(ffn=0.5, reconstruct=False, multiple_of=8).apply(llama, context)
    products = Factorize(linear={"budget": 0.7}, only=("ffn_gate", "query"), multiple_of=4)
    cut = products.apply(cut, small_context(tmp_path / "products", train=EXAMPLES))
    stage = Distil(
        epochs=4, learning_rate=3e-3, batch_size=1, label_weight=0.0, layer_map="uniform"
    )
    found = stage.apply(cut, context).steps[-1].decisions
    assert found["losses"][-1] < 0.8 * found["losses"][0]
    shape = StudentShape(layers=2, heads=1, hidden_size=24)
    small = shape.make(llama.model, 0)
    assert (small.config.num_attention_heads, small.config.num_key_value_heads) == (2, 1)
    theirs, ours = next(blocks(load_module(llama.model))), next(blocks(small))
    kept = int(theirs.head_squares().argmax())
    rows = theirs.part("query").weight[kept * 32 : kept * 32 + 32]
    assert all(bool((rows == value).any()) for value in ours.part("query").weight[0])


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ("vocabulary.trim: {keep: 100}", "writes with the pieces that it reads"),
        ("prune.layers: {keep: 1, measure: divergence}", "use loss or influence"),
        ("prune.structured: {target: {latency: 0.5}}", "give macs or size"),
        ("distil: {teachers: [{sources: [train]}, {weight: 0.5}]}", "is taught by one teacher"),
        ("finetune: {lora: {}, qat: {}}", "lora leaves the matrices as they are"),
    ],
)
def test_what_a_decoder_does_not_allow_is_said_before_work_starts(
    stage, why, checkpoints, tmp_path
):
    (tmp_path / "train.txt").write_text("\n".join(TEXTS) * 4)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: x\nteacher: {{model: {checkpoints / 'Llama'}}}\ntask: text-generation\n"
        f"data: {{format: text, root: {tmp_path}, train: train.txt, "
        f"split: {{validation: 0.3, test: 0.3}}}}\nstages: [{stage}, export]\n"
    )
    with pytest.raises(RecipeError, match=why):
        plan(load_recipe(recipe))
