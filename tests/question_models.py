"""Small models that find answers in passages, and questions that they can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from helpers import PEOPLE, PLACES, WORDS
from tokenizers import Tokenizer, processors

LONGEST = 24
KINDS = {"je": PEOPLE, "ta": PLACES}
"""The word that asks for one of these."""


def write_question_model(folder: Path, head: str = "none", seed: int = 3, **settings: Any) -> Any:
    """Write a small BERT whose tokenizer puts two texts together as BERT's does."""
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, **settings}
    module = write_checkpoint(folder, "Bert", head, seed=seed, **settings)
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(file))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "attention_mask", "token_type_ids"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, "model_max_length": LONGEST})
    )
    return module


def questions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Give questions about a person or a place in a passage of up to 40 words; a fifth has none."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        asked = chance.choice(list(KINDS))
        words = [chance.choice(WORDS[2:]) for _ in range(chance.choice((6, 8, 10, 40)))]
        impossible = number % 5 == 0
        for kind, names in KINDS.items():
            if not (impossible and kind == asked):
                words[chance.randrange(len(words) // 2) * 2 + (kind == "ta")] = chance.choice(names)
        context = " ".join(words)
        right = [word for word in words if word in KINDS[asked]]
        answers = [{"text": one, "answer_start": context.index(one)} for one in right]
        found.append({
            "id": f"{seed}-{number}", "question": asked, "context": context, "answers": answers,
            "is_impossible": impossible,
        })  # fmt: skip
    return found


def write_squad(file: Path, records: list[dict[str, Any]]) -> Path:
    """Write them in SQuAD's form, a paragraph each."""
    paragraphs = [
        {"context": one["context"], "qas": [{k: v for k, v in one.items() if k != "context"}]}
        for one in records
    ]
    document = {"version": "v2.0", "data": [{"title": "small", "paragraphs": paragraphs}]}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file
