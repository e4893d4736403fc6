"""Hidden channels that leave: every family on disk and back, and what is refused."""

import json

import pytest
import torch
import transformers

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.hidden import hidden_norms, hidden_size, keep_hidden
from edgecompress.surgery.model import load_module, save_module

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
SPECIALS = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS = {
    "Bert": lambda: transformers.BertConfig(**SIZES),
    "Roberta": lambda: transformers.RobertaConfig(**SIZES),
    "Electra": lambda: transformers.ElectraConfig(**SIZES, embedding_size=16),
    "DistilBert": lambda: transformers.DistilBertConfig(
        vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    ),
    "ModernBert": lambda: transformers.ModernBertConfig(
        **SIZES, **SPECIALS, bos_token_id=1, eos_token_id=2
    ),
    "Albert": lambda: transformers.AlbertConfig(**SIZES, embedding_size=32),
}
IDS = torch.randint(5, 60, (2, 11), generator=torch.Generator().manual_seed(1))


def make(family="Bert", head="ForTokenClassification"):
    torch.manual_seed(0)
    cls = getattr(transformers, family + head)
    return cls._from_config(CONFIGS[family](), attn_implementation="eager").eval()


def answers(module):
    with torch.no_grad():
        return module(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForSequenceClassification"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_narrower_model_comes_back_exactly(family, head, tmp_path):
    module = make(family, head)
    before = answers(module)
    keep_hidden(module, range(32))
    assert torch.equal(answers(module), before)
    keep_hidden(module, [*range(8), *range(16, 32)])
    assert hidden_size(module) == 24
    assert all(norm.normalized_shape == (24,) for norm in hidden_norms(module))
    again = load_module(save_module(module, tmp_path))
    assert json.loads((tmp_path / "surgery.json").read_text())["hidden"] == 24
    assert json.loads((tmp_path / "config.json").read_text()).get("hidden_size", 32) == 32
    assert torch.equal(answers(again), answers(module))
    keep_hidden(again, range(0, 24, 3))
    assert hidden_size(load_module(save_module(again, tmp_path / "twice"))) == 8


def test_the_channels_that_stay_are_the_named_ones():
    module, narrow = make(), make()
    kept = list(range(1, 32, 2))
    keep_hidden(narrow, kept)
    words = module.bert.embeddings.word_embeddings.weight
    assert torch.equal(narrow.bert.embeddings.word_embeddings.weight, words[:, kept])
    output = module.bert.encoder.layer[0].output.dense
    assert torch.equal(narrow.bert.encoder.layer[0].output.dense.weight, output.weight[kept])
    assert torch.equal(narrow.bert.encoder.layer[0].output.dense.bias, output.bias[kept])
    assert torch.equal(narrow.classifier.weight, module.classifier.weight[:, kept])


def test_what_is_refused(tmp_path):
    for wrong in ([], [3, 1], [0, 32]):
        with pytest.raises(StageError, match="channel"):
            keep_hidden(make(), wrong)
    module = make()
    keep_hidden(module, range(16))
    model = save_module(module, tmp_path)
    document = json.loads((tmp_path / "surgery.json").read_text())
    for wrong in (0, 99, "many"):
        text = json.dumps({**document, "hidden": wrong})
        (tmp_path / "surgery.json").write_text(text)
        with pytest.raises(DataError, match="damaged surgery record"):
            load_module(model)
