"""Training only the used rows of an embedding gives what training all of them gives."""

import numpy as np
import pytest
import torch
import transformers

from edgecompress.surgery.families import word_embedding
from edgecompress.training.embedding import UsedRows, only_used_rows


def module():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
    )
    return transformers.BertForTokenClassification(config).eval()


def descend(model, ids, steps=3):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids).logits.square().sum().backward()
        optimizer.step()


def test_same_result_as_all_rows():
    ids = torch.tensor([[3, 7, 9, 0], [7, 7, 4, 1]])
    whole, part = module(), module()
    descend(whole, ids)
    original = word_embedding(part)
    with only_used_rows(part, ids.numpy().ravel()):
        assert sum(p.numel() for p in part.base_model.embeddings.word_embeddings.parameters()) == (
            6 * 16
        )
        descend(part, ids)
        other = torch.tensor([[30, 3, 31]])
        with torch.no_grad():
            inside = part(input_ids=other).logits
    assert word_embedding(part) is original
    for ours, its in zip(part.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, its, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(part(input_ids=other).logits, inside)


def test_unused_rows_are_looked_up_too():
    embedding = torch.nn.Embedding(20, 4)
    rows = UsedRows(embedding, np.array([2, 5]))
    ids = torch.tensor([[2, 3, 5, 19]])
    assert torch.equal(rows(ids), embedding(ids))


@pytest.mark.parametrize("error", [False, True])
def test_the_module_is_whole_again_after_an_error(error):
    model = module()
    original = word_embedding(model)
    for freeze in (True, False):
        try:
            with only_used_rows(model, np.array([1, 2]), freeze=freeze):
                trained = {n for n, p in model.named_parameters() if p.requires_grad}
                assert any("embeddings" in name for name in trained) is not freeze
                if error:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert word_embedding(model) is original
        assert all(p.requires_grad for p in model.parameters())
