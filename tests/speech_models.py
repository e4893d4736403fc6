"""A tiny Whisper with random weights, and sounds for it: what it writes means nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = tuple(f"{a}{b}" for a in "bdgklmnp" for b in "aeiou")
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|sw|>", "<|transcribe|>",
           "<|notimestamps|>")  # fmt: skip
END, START, ENGLISH, SWAHILI, TRANSCRIBE, NO_TIMES = range(len(WORDS), len(WORDS) + len(SPECIAL))
RATE, SECONDS = 16000, 1
TIMES = 50 * SECONDS + 1
PIECES = len(WORDS) + len(SPECIAL) + TIMES


def write_speech_model(folder: Path, *, languages: bool = False, seed: int = 0) -> Path:
    """Write a checkpoint in Hugging Face's form that reads windows of a second."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=PIECES, d_model=16, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_source_positions=50 * SECONDS, max_target_positions=24,
        num_mel_bins=16, pad_token_id=END, bos_token_id=END, eos_token_id=END,
        decoder_start_token_id=START, begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    module = transformers.WhisperForConditionalGeneration(config)
    for name, parameter in module.named_parameters():
        if "layer_norm" not in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, 0.0, 0.5)
    module.save_pretrained(folder)
    return write_speech_files(folder, languages=languages)


def write_speech_files(folder: Path, *, languages: bool = False) -> Path:
    """Write what lies beside the weights: tokenizer, spectrum, and how the model is asked."""
    from tokenizers import Tokenizer, decoders, models

    folder.mkdir(exist_ok=True)
    (folder / "generation_config.json").write_text(json.dumps(asking(languages=languages)))
    pieces = {f"Ġ{word}": number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    processor = {
        "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 16,
        "sampling_rate": RATE, "hop_length": 160, "n_fft": 400, "chunk_length": SECONDS,
        "n_samples": RATE * SECONDS, "nb_max_frames": 100 * SECONDS, "padding_side": "right",
        "padding_value": 0.0, "return_attention_mask": False, "dither": 0.0,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def asking(*, languages: bool) -> dict[str, Any]:
    """Give what generation_config.json says, of a model of one language or of several."""
    plain = {
        "eos_token_id": END, "bos_token_id": END, "pad_token_id": END, "max_length": 14,
        "decoder_start_token_id": START, "no_timestamps_token_id": NO_TIMES,
        # What transformers makes of times that nobody asked for hangs on where the sound ends.
        "suppress_tokens": [3, 4, *range(START, PIECES if languages else NO_TIMES + 1)],
        "begin_suppress_tokens": [0, END], "is_multilingual": languages,
        "return_timestamps": False, "max_initial_timestamp_index": 20,
    }  # fmt: skip
    tokens = {"lang_to_id": {"<|en|>": ENGLISH, "<|sw|>": SWAHILI},
              "task_to_id": {"transcribe": TRANSCRIBE},
              "forced_decoder_ids": [[1, None], [2, TRANSCRIBE]]}  # fmt: skip
    return plain | (tokens if languages else {"forced_decoder_ids": [[1, NO_TIMES]]})


def sound(seed: int, seconds: float = 0.9, rate: int = RATE) -> np.ndarray[Any, Any]:
    """Make something that changes as speech does, float32 (samples,)."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(
        np.sin(2 * np.pi * one * time + random.uniform(0, 6))
        for one in random.uniform(100, 3000, 5)
    )
    loud = np.abs(np.sin(np.pi * random.uniform(1, 4) * time))
    return (0.1 * tones * loud + random.normal(0, 0.01, len(time))).astype(np.float32)
