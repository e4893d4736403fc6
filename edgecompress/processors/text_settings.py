"""What a tokenizer's files say beside its pieces: longest rows, padding, special tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecompress.values import file_digest

DEFAULT_MAX_LENGTH = 512  # BERT's; transformers writes 10**30 where it does not know
LARGEST_MAX_LENGTH = 1_000_000


def max_length_of(config: dict[str, Any]) -> int:
    """Give the most tokens in a row; BERT's where nothing sensible is said."""
    value = config.get("model_max_length")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return DEFAULT_MAX_LENGTH
    return int(value) if 0 < value <= LARGEST_MAX_LENGTH else DEFAULT_MAX_LENGTH


def pad_id_of(tokenizer: Any, config: dict[str, Any]) -> int:
    """Find the id that fills rows up."""
    token = config.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    for name in (token, (tokenizer.padding or {}).get("pad_token"), "[PAD]", "<pad>"):
        found = tokenizer.token_to_id(name) if isinstance(name, str) else None
        if found is not None:
            return int(found)
    return 0  # masked out by attention_mask, so that any id that exists will do


def specials_of(
    tokenizer: Any,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int]]:
    """Read from an encoded probe what the post-processor puts before and behind a text."""
    for probe in probes(tokenizer):
        encoding = tokenizer.encode(probe, add_special_tokens=True)
        inside = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if not inside:
            continue
        first, last = inside[0], inside[-1]
        ids, types = encoding.ids, encoding.type_ids
        prefix, suffix = tuple(ids[:first]), tuple(ids[last + 1 :])
        before = types[0] if prefix else 0
        behind = types[-1] if suffix else 0
        return prefix, suffix, (before, types[first], behind)
    return (), (), (0, 0, 0)


def probes(tokenizer: Any) -> Iterator[str]:
    """Give texts of which one is likely to be a piece of any tokenizer."""
    yield from ("a", "1", ".")
    yield from sorted(tokenizer.get_vocab())[:1000]  # slow, and hardly ever asked for


def files_digest(directory: Path) -> str:
    """SHA-256 over the files that say how texts are encoded."""
    found = hashlib.sha256()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = directory / name
        found.update(f"{name} {file_digest(file) if file.is_file() else '-'}\n".encode())
    return found.hexdigest()
