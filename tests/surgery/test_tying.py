"""A head that shares its matrix with the embedding is written once and is one again when read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgecompress.errors import DataError
from edgecompress.surgery.model import load_module, save_module

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
MORE = {
    "Albert": {"embedding_size": 16},
    "Electra": {"embedding_size": 16},
    "ModernBert": {"reference_compile": False, "cls_token_id": 1, "sep_token_id": 2},
}
FAMILIES = ("Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "Albert", "ModernBert")


def made(family: str):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SHAPE, **MORE.get(family, {}))
    return getattr(transformers, f"{family}ForMaskedLM")(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_matrix_stays_one(family: str, tmp_path: Path):
    module = made(family)
    found = load_module(save_module(module, tmp_path))
    ids = torch.randint(3, 50, (2, 7))
    with torch.no_grad():
        assert torch.allclose(found(input_ids=ids).logits, module(input_ids=ids).logits, atol=1e-6)
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
    ours, before = (sum(p.numel() for p in m.parameters()) for m in (found, module))
    assert ours == before
    written = load_file(tmp_path / "model.safetensors")
    assert sum(t.numel() for n, t in written.items() if "position_ids" not in n) == before


def test_what_is_not_one_is_written_twice(tmp_path: Path):
    module = made("Bert")
    head = module.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach() * 2)
    found = load_module(save_module(module, tmp_path))
    assert torch.equal(found.get_output_embeddings().weight, head.weight)
    assert not torch.equal(found.get_input_embeddings().weight, head.weight)


def test_transformers_reads_it_too(tmp_path: Path):
    module = made("Bert")
    save_module(module, tmp_path)
    found = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(3, 50, (2, 7))
    with torch.no_grad():
        assert torch.allclose(found(input_ids=ids).logits, module(input_ids=ids).logits, atol=1e-6)


@pytest.mark.parametrize("tied", ['["x"]', '{"cls.predictions.decoder.weight": "nothing"}', "{"])
def test_a_damaged_record_is_said(tied: str, tmp_path: Path):
    save_module(made("Bert"), tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "tied": tied})
    with pytest.raises(DataError, match="do not fit"):
        load_module_at(tmp_path)


def load_module_at(folder: Path):
    from edgecompress.values import TorchModel

    return load_module(TorchModel(folder))
