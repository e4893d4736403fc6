"""What can be said of an example without knowing its task: how long it is, what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.texts import TEXTS, running_text, texts_of, words_of
from edgecompress.values import Example, Json, file_digest, json_digest

WRITTEN = {*TEXTS, "words"}
"""Inputs that are text."""


def input_length(example: Example) -> int:
    """Give the length of an example's inputs: characters of text, else steps of arrays and lists.

    It orders examples for timing and says nothing of what they cost.
    """
    text = sum(map(len, texts_of(example))) + sum(len(word) + 1 for word in words_of(example))
    others = (value for name, value in example.inputs.items() if name not in WRITTEN)
    return text + sum(len(value) if hasattr(value, "__len__") else 1 for value in others)


def inputs_json(example: Example) -> Json:
    """Give an example's inputs as JSON, arrays and files as their digests."""
    return {name: _plain(value) for name, value in example.inputs.items()}


def content(example: Example) -> str:
    """Give what the same examples have in common: the text, or a digest of other inputs."""
    text = running_text(example)
    if text or not example.inputs.keys() - WRITTEN:
        return text
    return json_digest(inputs_json(example))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": digest}
    if isinstance(value, Path):
        return file_digest(value)
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
