"""Checkpoints as people have them: small encoders of any family with one head or none."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import PEOPLE, PLACES, WORDS
from lookup_models import SPECIALS, write_tokenizer

FAMILIES = (
    "Bert", "Roberta", "DistilBert", "Electra", "Albert", "XLMRoberta", "Camembert", "ModernBert",
)  # fmt: skip
HEADS = {
    "none": "Model",
    "masked-lm": "ForMaskedLM",
    "question-answering": "ForQuestionAnswering",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
}


def write_checkpoint(
    folder: Path,
    family: str,
    head: str,
    names: Sequence[str] = ("LABEL_0", "LABEL_1"),
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Write a checkpoint with its tokenizer into `folder`, and give the module that it holds.

    `head` is a key of `HEADS`; `settings` are further fields of its configuration, None for one
    that it does not have.
    """
    import torch
    import transformers

    words = tuple(word.lower() for word in (*PEOPLE, *PLACES, *WORDS))
    write_tokenizer(folder, words)
    chance = random.Random(seed)
    fields: dict[str, Any] = {
        "vocab_size": len(SPECIALS) + len(words) + 8,  # what a tokenizer class adds has room
        "hidden_size": chance.choice((8, 16)),
        "num_hidden_layers": chance.choice((1, 2)),
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        ("hidden_dim" if family == "DistilBert" else "intermediate_size"): 16,
        **({"embedding_size": 8} if family in ("Albert", "Electra") else {}),
        **({"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
           if family == "ModernBert" else {}),
        **settings,
    }  # fmt: skip
    known = {name: value for name, value in fields.items() if value is not None}
    config = getattr(transformers, f"{family}Config")(**known)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = getattr(transformers, family + HEADS[head])(config).eval()
        with torch.no_grad():  # biases too: a fresh head's are zero, and could not be told apart
            for parameter in module.parameters():
                parameter.normal_(0.0, 0.2)
    module.save_pretrained(folder)
    return module


def copied(folder: Path, into: Path) -> Path:
    """Copy a checkpoint to change it."""
    shutil.copytree(folder, into)
    return into
