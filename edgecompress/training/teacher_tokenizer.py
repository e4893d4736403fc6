"""A teacher's tokenizer: read from whatever a checkpoint has, written in the one form we read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecompress.checkpoint import has_tokenizer
from edgecompress.errors import DataError
from edgecompress.processors.text_settings import DEFAULT_MAX_LENGTH
from edgecompress.surgery.families import find_family
from edgecompress.surgery.onnx_export import input_names

SEGMENTS = "token_type_ids"
SETTINGS = {"lowercase", "strip_accents", "handle_chinese_chars", "add_prefix_space"}
"""What tokenizer_config.json may say otherwise than tokenizer.json, and then counts."""


def read_tokenizer(source: Path) -> Any:
    """Read a checkpoint's tokenizer as a fast one; no code of its own is ever run.

    A ``tokenizer.json`` is taken as it is. Transformers 5 takes its pieces only, and makes the rest
    anew as the class does that belongs to the model.

    Raises
    ------
    DataError
        When there is none, it is damaged, or transformers cannot make a fast one of it.
    """
    if not has_tokenizer(source):
        raise DataError(
            "the teacher's directory has no tokenizer (tokenizer.json, vocab.txt or a "
            "sentencepiece model); copy it there",
            file=source,
        )
    try:
        tokenizer = _read(source)
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception on damaged files
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"the tokenizer of {source.name!r} cannot be read ({cause})") from None
    if not tokenizer.is_fast:
        raise DataError(
            f"transformers cannot convert the tokenizer of {source.name!r} into a tokenizer.json; "
            "a fast tokenizer is needed"
        )
    return tokenizer


def _read(source: Path) -> Any:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = source / "tokenizer.json"
    try:
        found = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except Exception:
        if not file.is_file():
            raise
        return PreTrainedTokenizerFast.from_pretrained(source)  # of another class's kind
    if not file.is_file() or not found.is_fast:
        return found
    stored = Tokenizer.from_file(str(file))
    if _way(stored) == _way(found.backend_tokenizer):
        return found
    known = stored.get_vocab()
    return PreTrainedTokenizerFast(
        tokenizer_object=stored,
        model_max_length=found.model_max_length,
        model_input_names=found.model_input_names,
        **{k: v for k, v in found.special_tokens_map.items() if isinstance(v, str) and v in known},
    )


def _way(tokenizer: Any) -> Any:
    """Give how a tokenizer makes pieces of a text, but for what its settings may change."""
    document = json.loads(tokenizer.to_str())
    model = {k: v for k, v in document["model"].items() if k not in {"vocab", "merges"}}
    return model, [_without_settings(document[part]) for part in ("normalizer", "pre_tokenizer")]


def _without_settings(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_settings(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {k: _without_settings(v) for k, v in part.items() if k not in SETTINGS}


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
    taken = inspect.signature(module.forward).parameters
    names = [name for name in tokenizer.model_input_names if name in taken]
    # Transformers 5 leaves segments out for a tokenizer of no class of its own.
    if SEGMENTS not in names and find_family(module.config) and SEGMENTS in input_names(module):
        names.insert(1, SEGMENTS)
    _write(tokenizer, folder, longest_input(module.config, tokenizer.model_max_length), names)


def import_tokenizer(source: Path, inputs: Sequence[str], folder: Path) -> None:
    """Write the tokenizer that lies beside an exported graph in the form that we read.

    Parameters
    ----------
    source : Path
        Folder with the tokenizer and its model's config.json.
    inputs : sequence of str
        What the graph takes.
    folder : Path
        Made when it does not exist.

    Raises
    ------
    DataError
        When the tokenizer cannot be read.
    """
    from transformers import AutoConfig

    tokenizer = read_tokenizer(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    longest = longest_input(config, tokenizer.model_max_length)
    names = [name for name in tokenizer.model_input_names if name in inputs]
    if SEGMENTS in inputs and SEGMENTS not in names:
        names.insert(1, SEGMENTS)
    _write(tokenizer, folder, longest, names)


def _write(tokenizer: Any, folder: Path, longest: int, names: Sequence[str]) -> None:
    # A limit or padding that someone saved into the file would cut texts silently.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["model_max_length"] = longest
    document["model_input_names"] = list(names)
    if document.get("tokenizer_class") == "TokenizersBackend":  # its name before transformers 5
        document["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("max_length", "name_or_path", "truncation_strategy", "stride"):
        document.pop(key, None)
    text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")


def pad_positions(config: Any) -> int:
    """Give how many positions lie before the first that the RoBERTa family uses."""
    return int(config.pad_token_id or 0) + 1


def longest_input(config: Any, tokenizer_limit: float) -> int:
    """Give the longest input in tokens, special ones included.

    The RoBERTa family numbers positions from behind the padding id: of 514 positions it uses 512.
    A model that no family describes may do so, too, and is given no more. One whose configuration
    names no positions takes as many as its tokenizer says, or BERT's 512.
    """
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions < 1:  # XLNet says -1
        return int(min(tokenizer_limit, DEFAULT_MAX_LENGTH))
    family = find_family(config)
    offset = pad_positions(config) if family is None or family.position_offset else 0
    named = next(iter(getattr(config, "architectures", None) or ()), "")
    if named.endswith(("ForCausalLM", "LMHeadModel")):
        offset = 0
    elif family is None:  # MPNet counts from 2 on, whatever pads
        offset = 2 if offset > positions // 2 else max(offset, 2)
    return int(min(tokenizer_limit, positions - offset))
