"""Tiny models that write a text for a text, with random weights: T5 and Marian."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = tuple(f"{a}{b}" for a in "bdgklmnp" for b in "aeiou")
PAD, END, UNKNOWN = 0, 1, 2
FIRST = 3
"""The number of the first word."""
PIECES = len(WORDS) + FIRST
TEXTS = tuple(" ".join(WORDS[(7 * n + k) % len(WORDS)] for k in range(3 + n % 4)) for n in range(8))
MOST = 12
"""Most tokens of an answer, the one before the first included."""


def write_text_writer(folder: Path, kind: str = "t5", *, seed: int = 0) -> Path:
    """Write a checkpoint in Hugging Face's form: ``t5`` or ``marian``."""
    import torch
    import transformers

    torch.manual_seed(seed)
    usual = {"vocab_size": PIECES, "d_model": 16, "pad_token_id": PAD, "eos_token_id": END,
             "decoder_start_token_id": PAD}  # fmt: skip
    if kind == "t5":
        config: Any = transformers.T5Config(
            **usual, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
            relative_attention_num_buckets=8, relative_attention_max_distance=16,
        )  # fmt: skip
        module: Any = transformers.T5ForConditionalGeneration(config)
    else:
        config = transformers.MarianConfig(
            **usual, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            max_position_embeddings=32, forced_eos_token_id=None,
        )  # fmt: skip
        module = transformers.MarianMTModel(config)
    for name, parameter in module.named_parameters():
        if "layer_norm" not in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, 0.0, 0.6)
    module.save_pretrained(folder)
    return write_pieces(folder)


def write_pieces(folder: Path) -> Path:
    """Write what lies beside the weights: a tokenizer of a piece a word, and how it is asked."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = {"<pad>": PAD, "</s>": END, "<unk>": UNKNOWN}
    pieces |= {f"▁{word}": number for number, word in enumerate(WORDS, start=FIRST)}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>",
                "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 32}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    how = {"decoder_start_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD,
           "max_length": MOST, "bad_words_ids": [[PAD]]}  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(how))
    return folder
