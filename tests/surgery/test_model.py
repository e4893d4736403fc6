"""Models on disk and back: every family, uneven layers, and what a damaged directory gets."""

import json

import pytest
import torch
import transformers
from helpers import only_layers
from safetensors.torch import load_file, save_file

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families import blocks, layer_list
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.layers import evenly_spread, keep_layers
from edgecompress.surgery.model import load_module, save_module
from edgecompress.values import OnnxModel, TorchModel

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
CONFIGS = {
    "Bert": lambda: transformers.BertConfig(**SIZES),
    "Roberta": lambda: transformers.RobertaConfig(**SIZES),
    "XLMRoberta": lambda: transformers.XLMRobertaConfig(**SIZES),
    "Electra": lambda: transformers.ElectraConfig(**SIZES, embedding_size=16),
    "DistilBert": lambda: transformers.DistilBertConfig(
        vocab_size=60, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=40
    ),
}


def make(family="Bert", head="ForTokenClassification", seed=0):
    torch.manual_seed(seed)
    cls = getattr(transformers, family + head)
    return cls._from_config(CONFIGS[family](), attn_implementation="eager").eval()


def answers(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (2, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.no_grad():
        return module(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForSequenceClassification"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_pruned_model_comes_back_exactly(family, head, tmp_path):
    module = make(family, head)
    keep_heads_and_neurons(
        module, [[0, 1, 2, 3], [2], [0, 3]], [range(64), range(3, 20), list(range(0, 64, 2))]
    )
    expected = answers(module)
    model = save_module(module, tmp_path / "model")
    for attention in ("eager", "sdpa"):
        again = load_module(model, attention)
        assert not again.training
        assert [block.heads for block in blocks(again)] == [4, 1, 2]
        assert [block.neurons for block in blocks(again)] == [64, 17, 32]
        assert all(parameter.device.type == "cpu" for parameter in again.parameters())
        if attention == "eager":
            assert torch.equal(answers(again), expected)
        else:
            torch.testing.assert_close(answers(again), expected, rtol=1e-4, atol=1e-5)


def test_removing_a_head_equals_silencing_it(tmp_path):
    module, masked = make(), make()
    before = sum(parameter.numel() for parameter in module.parameters())
    with torch.no_grad():
        for block in blocks(masked):
            block.part("output").weight[:, 8:16] = 0
            block.part("ffn_out").weight[:, 40:] = 0
    keep_heads_and_neurons(module, [[0, 2, 3]] * 3, [range(40)] * 3)
    torch.testing.assert_close(answers(module), answers(masked), rtol=1e-5, atol=1e-6)
    one_head = 4 * 32 * 8 + 3 * 8
    one_neuron = 2 * 32 + 1
    after = sum(parameter.numel() for parameter in module.parameters())
    assert before - after == 3 * (one_head + 24 * one_neuron)


def test_even_layers_need_no_surgery_record(tmp_path):
    module = make()
    keep_heads_and_neurons(module, [range(4)] * 3, [range(48)] * 3)
    model = save_module(module, tmp_path)
    assert not (tmp_path / "surgery.json").exists()
    plain = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path, attn_implementation="eager"
    )
    assert torch.equal(answers(plain.eval()), answers(load_module(model)))


def test_layers_leave_for_good(tmp_path):
    module = make()
    with only_layers(module, [0, 2]):
        expected = answers(module)
    assert len(layer_list(module)) == 3
    keep_layers(module, [0, 2])
    assert torch.equal(answers(module), expected)
    again = load_module(save_module(module, tmp_path))
    assert len(layer_list(again)) == 2
    assert torch.equal(answers(again), expected)


def test_saving_does_not_change_the_module(tmp_path):
    module = make()
    keep_heads_and_neurons(module, [[1]] * 3, [range(8)] * 3)
    config = module.config.to_dict()
    save_module(module, tmp_path)
    assert module.config.to_dict() == config


def test_same_module_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_module(make(), tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("layers", "keep", "expected"),
    [(6, 3, (0, 2, 5)), (6, 6, (0, 1, 2, 3, 4, 5)), (12, 2, (0, 11)), (4, 1, (0,))],
)
def test_even_spread(layers, keep, expected):
    assert evenly_spread(layers, keep) == expected


def test_nothing_may_be_emptied_or_invented():
    with pytest.raises(StageError, match="layer 1 would be left without heads"):
        keep_heads_and_neurons(make(), [[0], [], [0]], [[0]] * 3)
    with pytest.raises(StageError, match="layer 0 has 64 neurons"):
        keep_heads_and_neurons(make(), [[0]] * 3, [[64], [0], [0]])
    with pytest.raises(StageError, match="layers 0 to 2"):
        keep_layers(make(), [1, 3])
    with pytest.raises(StageError, match="at least one layer"):
        keep_layers(make(), [])
    with pytest.raises(StageError, match="cannot keep 7"):
        evenly_spread(6, 7)


def test_damaged_directories_are_named(tmp_path):
    model = save_module(make(), tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, weights)
    with pytest.raises(DataError, match=r"do not fit config\.json.*extra"):
        load_module(model)
    del tensors["extra"], tensors["classifier.bias"]
    save_file(tensors, weights)
    with pytest.raises(DataError, match=r"classifier\.bias"):
        load_module(model)
    weights.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_module(model)
    weights.unlink()
    with pytest.raises(DataError, match="weights are missing"):
        load_module(model)
    (tmp_path / "surgery.json").write_text('{"heads": [1]}')
    with pytest.raises(DataError, match=r"surgery\.json"):
        load_module(model)
    with pytest.raises(DataError, match="configuration is missing"):
        load_module(TorchModel(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json"):
        load_module(model)
    with pytest.raises(DataError, match="ONNX"):
        load_module(OnnxModel(tmp_path / "model.onnx"))


def test_unsupported_architectures_are_refused_in_words(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nobody"}')
    with pytest.raises(DataError, match=r"unknown configuration .nobody"):
        load_module(TorchModel(tmp_path))
    config = CONFIGS["Bert"]()
    config.architectures = ["BertForMultipleChoice"]
    config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="BertForMultipleChoice"):
        load_module(TorchModel(tmp_path))


def test_afriberta_shape(tmp_path):
    """XLM-R architecture, 6 heads of 128 and a large vocabulary; one layer keeps it light."""
    config = transformers.XLMRobertaConfig(
        vocab_size=70006,
        hidden_size=768,
        intermediate_size=3072,
        num_attention_heads=6,
        num_hidden_layers=2,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    module = transformers.XLMRobertaForTokenClassification._from_config(
        config, attn_implementation="eager"
    ).eval()
    keep_heads_and_neurons(module, [[0, 2, 5], [1]], [range(1536), range(512)])
    expected = answers(module)
    again = load_module(save_module(module, tmp_path))
    assert torch.equal(answers(again), expected)
    assert json.loads((tmp_path / "surgery.json").read_text())["heads"] == [3, 1]
    assert next(blocks(again)).head_size == 128
