"""The files of a smaller tokenizer: ``tokenizer.json`` and what beside it names ids.

Ids are closed up: pieces keep their order, so that special tokens at the front (the four that
XLM-R's files put before SentencePiece's own) stay at the front and ``<mask>`` behind all others
stays there. Files of the slow tokenizer (``vocab.txt``, ``merges.txt``, ``spiece.model`` …) hold
the old pieces and are left out: transformers reads ``tokenizer.json`` alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError, StageError
from edgecompress.modules.sentence_files import LIMITS, PROMPTS
from edgecompress.processors.passages import FILE as PASSAGES
from edgecompress.surgery.vocabulary.pieces import Vocabulary
from edgecompress.values import Json

CONFIG = "tokenizer_config.json"
COPIED = ("special_tokens_map.json", PROMPTS, LIMITS, PASSAGES)
"""Files that name special tokens by their text, never by id, and those of other processors."""
FILE_KEYS = ("vocab_file", "merges_file", "tokenizer_file", "spm_file", "sp_model_file")
"""Keys of tokenizer_config.json that name a file of the original."""


def new_ids(vocabulary: Vocabulary, kept: Iterable[str]) -> dict[str, int]:
    """Give the kept pieces numbers from 0, in their old order; those behind the model come last.

    The `tokenizers` library numbers added tokens that its model does not know behind the model's.
    """
    numbers = {**vocabulary.ids, **vocabulary.added}
    ordered = sorted(kept, key=lambda piece: (piece not in vocabulary.ids, numbers[piece]))
    return {piece: number for number, piece in enumerate(ordered)}


def trimmed_document(vocabulary: Vocabulary, kept: Iterable[str]) -> Json:
    """Give ``tokenizer.json`` with only the kept pieces.

    Raises
    ------
    StageError
        When a special token would be left out.
    """
    ids = new_ids(vocabulary, kept)
    absent = sorted(vocabulary.added.keys() - ids.keys())
    if absent:
        raise StageError(f"the special token {absent[0]!r} must be kept")
    document = copy.deepcopy({k: v for k, v in vocabulary.document.items() if k != "model"})
    old = vocabulary.document["model"]
    model = {key: value for key, value in old.items() if key not in ("vocab", "merges")}
    if vocabulary.kind == "Unigram":
        model["vocab"] = [entry for entry in old["vocab"] if entry[0] in ids]
        if vocabulary.unknown is not None:
            model["unk_id"] = ids[vocabulary.unknown]
    else:
        model["vocab"] = {piece: ids[piece] for piece in ids if piece in vocabulary.ids}
    if "merges" in old:
        model["merges"] = [
            written
            for written, (first, second) in zip(old["merges"], vocabulary.merges, strict=True)
            if first in ids and second in ids and vocabulary.merged(first, second) in ids
        ]
    document["model"] = model
    renumber(document, ids)
    return document


def renumber(document: Json, ids: Mapping[str, int]) -> None:
    """Renumber the special tokens that stand beside a ``tokenizer.json``'s model, in place."""
    for token in document["added_tokens"]:
        token["id"] = ids[token["content"]]
    _renumber_processor(document.get("post_processor"), ids)
    padding = document.get("padding")
    if isinstance(padding, dict) and padding.get("pad_token") in ids:
        padding["pad_id"] = ids[padding["pad_token"]]


def _renumber_processor(processor: Any, ids: Mapping[str, int]) -> None:
    """Renumber the special tokens that a post-processor puts around a text, in place.

    Source: the forms ``TemplateProcessing``, ``BertProcessing``, ``RobertaProcessing`` and
    ``Sequence`` of the `tokenizers` library.
    """
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors", ()):
        _renumber_processor(inner, ids)
    for end in ("sep", "cls"):
        if isinstance(processor.get(end), list):
            processor[end][1] = _known(processor[end][0], ids)
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [_known(one, ids) for one in token["tokens"]]


def _known(token: str, ids: Mapping[str, int]) -> int:
    if token not in ids:
        raise StageError(f"the post-processor adds {token!r}, which the tokenizer does not hold")
    return ids[token]


def processor_tokens(vocabulary: Vocabulary) -> set[str]:
    """Give the tokens that the post-processor puts around a text."""
    found: set[str] = set()
    waiting = [vocabulary.document.get("post_processor")]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.get("processors", ())
            found |= {one[end][0] for end in ("sep", "cls") if isinstance(one.get(end), list)}
            for token in (one.get("special_tokens") or {}).values():
                found.update(token["tokens"])
    return found


def write_trimmed(
    vocabulary: Vocabulary, kept: Iterable[str], source: Path, folder: Path
) -> tuple[str, ...]:
    """Write the smaller tokenizer.

    Parameters
    ----------
    vocabulary : Vocabulary
        Read from `source`.
    kept : iterable of str
        The pieces that stay.
    source : Path
        The original's folder; not changed.
    folder : Path
        New.

    Returns
    -------
    tuple of str
        Names of the files that were left out, sorted.

    Raises
    ------
    StageError
        When the `tokenizers` library numbers a piece otherwise than was meant.
    """
    kept = tuple(kept)
    document = trimmed_document(vocabulary, kept)
    return write_tokenizer(document, new_ids(vocabulary, kept), source, folder)


def write_tokenizer(
    document: Json, ids: dict[str, int], source: Path, folder: Path
) -> tuple[str, ...]:
    """Write a tokenizer with other pieces: see `write_trimmed`.

    Parameters
    ----------
    document : dict
        Its ``tokenizer.json``.
    ids : dict of str to int
        All its pieces.
    source, folder : Path
    """
    from tokenizers import Tokenizer

    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    found = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    wrong = sorted(
        piece for piece in found.keys() | ids.keys() if found.get(piece) != ids.get(piece)
    )
    if wrong:
        raise StageError(
            f"the smaller tokenizer numbers {wrong[0]!r} {found.get(wrong[0])}, "
            f"not {ids.get(wrong[0])}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    if (source / CONFIG).is_file():
        document = _config(source / CONFIG, ids)
        text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")
    for name in COPIED:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    written = {path.name for path in folder.iterdir()}
    return tuple(sorted(path.name for path in source.iterdir() if path.name not in written))


def _config(file: Path, ids: dict[str, int]) -> Json:
    """Give ``tokenizer_config.json`` with the new ids and without names of files."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        decoder = document.get("added_tokens_decoder") or {}
        renumbered = {str(ids[entry["content"]]): entry for entry in decoder.values()
                      if entry["content"] in ids}  # fmt: skip
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot be read ({error})", file=file) from None
    for key in FILE_KEYS:
        document.pop(key, None)
    if decoder:
        document["added_tokens_decoder"] = renumbered
    return dict(document)
