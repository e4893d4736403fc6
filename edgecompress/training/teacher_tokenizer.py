"""A teacher's tokenizer: read from whatever a checkpoint has, written in the one form we read."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from edgecompress.checkpoint import TOKENIZER_FILES
from edgecompress.errors import DataError
from edgecompress.surgery.families import family_of, find_family
from edgecompress.surgery.onnx_export import input_names

SEGMENTS = "token_type_ids"


def read_tokenizer(source: Path) -> Any:
    """Read a checkpoint's tokenizer as a fast one; no code of its own is ever run.

    Raises
    ------
    DataError
        When there is none, it is damaged, or transformers cannot make a fast one of it.
    """
    from transformers import AutoTokenizer

    if not any((source / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            "the teacher's directory has no tokenizer (tokenizer.json, vocab.txt or a "
            "sentencepiece model); copy it there",
            file=source,
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception on damaged files
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"the tokenizer of {source.name!r} cannot be read ({cause})") from None
    if not tokenizer.is_fast:
        raise DataError(
            f"transformers cannot convert the tokenizer of {source.name!r} into a tokenizer.json; "
            "a fast tokenizer is needed"
        )
    return tokenizer


def write_tokenizer(tokenizer: Any, module: Any, folder: Path) -> None:
    """Write a fast tokenizer with the longest input and the inputs that `module` can take.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    module : transformers.PreTrainedModel
        Not changed.
    folder : Path
        Made when it does not exist.
    """
    # A limit or padding that someone saved into the file would cut texts silently.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    taken = inspect.signature(module.forward).parameters
    document["model_max_length"] = longest_input(module.config, tokenizer.model_max_length)
    names = [name for name in tokenizer.model_input_names if name in taken]
    # Transformers 5 leaves segments out for a tokenizer of no class of its own.
    if SEGMENTS not in names and find_family(module.config) and SEGMENTS in input_names(module):
        names.insert(1, SEGMENTS)
    document["model_input_names"] = names
    for key in ("max_length", "name_or_path", "truncation_strategy", "stride"):
        document.pop(key, None)
    text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")


def longest_input(config: Any, tokenizer_limit: float) -> int:
    """Give the longest input in tokens, special ones included.

    The RoBERTa family numbers positions from behind the padding id: of 514 positions it uses 512.
    """
    positions = int(config.max_position_embeddings)
    if family_of(config).position_offset:
        positions -= int(config.pad_token_id or 0) + 1
    return int(min(tokenizer_limit, positions))
