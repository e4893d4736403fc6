"""An XLM-R of 8 layers and 111 million random weights, with a tokenizer: what benchmarks measure.

768 wide, 6 heads, 3072 neurons, 70,006 pieces of a Unigram tokenizer that is trained here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.values import TorchModel

PIECES = 70_006
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-DATE", "I-DATE")


def synthetic_texts(count: int, seed: int = 0) -> list[str]:
    """Make texts of invented words of two to four syllables, some of them frequent."""
    random = np.random.default_rng(seed)
    syllables = [a + b for a in LETTERS for b in "aeiou"]
    chosen = random.integers(0, len(syllables), (90_000, 4))
    lengths = random.integers(2, 5, 90_000)
    words = ["".join(syllables[s] for s in row[:n]) for row, n in zip(chosen, lengths, strict=True)]
    ranks = np.minimum(random.zipf(1.1, (count, 25)) - 1, len(words) - 1)
    return [" ".join(words[rank] for rank in row) for row in ranks]


def make_tokenizer(texts: Sequence[str], folder: Path) -> None:
    """Train a Unigram tokenizer and fill it up to `PIECES` pieces, in XLM-R's order."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    space = pre_tokenizers.Metaspace()
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = space
    trainer = trainers.UnigramTrainer(
        vocab_size=20_000, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    found = json.loads(trained.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in found if piece not in SPECIALS]
    known = {piece for piece, _ in pieces}
    random = np.random.default_rng(1)
    lowest = min(score for _, score in pieces)
    while len(pieces) < PIECES - len(SPECIALS) - 1:
        piece = "▁" + "".join(LETTERS[i] for i in random.integers(0, len(LETTERS), 7))
        if piece not in known:
            known.add(piece)
            pieces.append((piece, lowest - 1.0))
    vocabulary = [(special, 0.0) for special in SPECIALS] + pieces + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=SPECIALS.index("<unk>")))
    tokenizer.pre_tokenizer = space
    tokenizer.add_special_tokens([*SPECIALS, "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>"}
    config: dict[str, Any] = {f"{role}_token": token for role, token in names.items()}
    config |= {"unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 512}
    config |= {"model_input_names": ["input_ids", "attention_mask"]}
    config |= {"tokenizer_class": "XLMRobertaTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def make_model(folder: Path) -> TorchModel:
    """Write the model with random weights."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForTokenClassification

    from edgecompress.surgery.model import save_module

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=PIECES,
        hidden_size=768,
        intermediate_size=3072,
        num_attention_heads=6,
        num_hidden_layers=8,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    module = XLMRobertaForTokenClassification._from_config(config, attn_implementation="eager")
    return save_module(module.eval(), folder)
