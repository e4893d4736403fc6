"""Small sentence encoders in sentence-transformers' own form, and pairs of texts with scores."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import write_checkpoint
from helpers import PEOPLE, PLACES, WORDS

KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
MODULE = "sentence_transformers.models."


def write_sentence_model(
    folder: Path,
    family: str = "Bert",
    pooling: tuple[str, ...] = ("mean",),
    dense: int | None = None,
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
    usual: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Write one as `SentenceTransformer.save` does, and give its body."""
    import torch
    from safetensors.torch import save_file

    body = write_checkpoint(folder, family, "none", seed=seed, **settings)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    width = body.config.hidden_size
    write(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": width, **{key: way in pooling for way, key in KEYS.items()},
    })  # fmt: skip
    if dense is not None:
        wide = width * len(pooling)
        modules.append(("2_Dense", "Dense"))
        write(folder / "2_Dense" / "config.json", {
            "in_features": wide, "out_features": dense, "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        })  # fmt: skip
        chance = torch.Generator().manual_seed(seed)
        tensors = {
            "linear.weight": torch.randn((dense, wide), generator=chance),
            "linear.bias": torch.randn(dense, generator=chance),
        }
        save_file(tensors, folder / "2_Dense" / "model.safetensors")
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    write(folder / "modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": MODULE + kind}
        for n, (path, kind) in enumerate(modules)
    ])  # fmt: skip
    write(folder / "config_sentence_transformers.json",
          {"prompts": prompts or {}, "default_prompt_name": usual})  # fmt: skip
    write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    return body


def write(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def sentences(count: int, seed: int = 0) -> list[str]:
    """Give texts of known words."""
    chance = random.Random(seed)
    every = (*PEOPLE, *PLACES, *WORDS)
    return [" ".join(chance.choices(every, k=chance.randint(2, 9))) for _ in range(count)]


def scored_pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Give pairs whose score is the share of the first text's words that the second has."""
    chance = random.Random(seed)
    found = []
    for text in sentences(count, seed):
        words = text.split()
        kept = chance.randint(0, len(words))
        other = words[:kept] + chance.choices(WORDS, k=len(words) - kept)
        chance.shuffle(other)
        found.append({"text": text, "text_pair": " ".join(other), "score": 5 * kept / len(words)})
    return found


def write_lines(file: Path, records: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def vectors_written_out(
    folder: Path,
    body: Any,
    texts: list[str],
    pooling: tuple[str, ...],
    dense: bool,
    normalize: bool,
) -> np.ndarray:
    """Do sentence-transformers' arithmetic in numpy on the body's own states, text by text."""
    import torch
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            states = body(input_ids=ids, attention_mask=torch.ones_like(ids))
        tokens = states.last_hidden_state[0].numpy().astype(np.float64)
        ways = {"cls": tokens[0], "max": tokens.max(0), "mean": tokens.mean(0),
                "lasttoken": tokens[-1]}  # fmt: skip
        vector = np.concatenate([ways[way] for way in ("cls", "max", "mean", "lasttoken")
                                 if way in pooling])  # fmt: skip
        if dense:
            layer = load_file(folder / "2_Dense" / "model.safetensors")
            vector = np.tanh(layer["linear.weight"] @ vector + layer["linear.bias"])
        found.append(vector / np.linalg.norm(vector) if normalize else vector)
    return np.array(found)
