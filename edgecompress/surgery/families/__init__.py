"""Where each supported architecture keeps its parts: one file per family, found by itself.

A file of this package that defines a ``FAMILY`` describes one architecture. A third party describes
one in a file of its own, with an entry point of the group ``edgecompress.families`` whose name is
the ``model_type`` and whose value names the `Family`. A model that nobody describes is exported
and quantized like any other; stages that cut refuse it in words, because a cut in the wrong matrix
gives a model that runs and answers nonsense.

Importing this package loads no torch, so that a recipe can be checked without it.
"""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.errors import DataError
from edgecompress.surgery.families._block import Block
from edgecompress.surgery.families._family import Family, described

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "GROUP",
    "Block",
    "Family",
    "blocks",
    "check_directory",
    "described_in",
    "family_named",
    "family_names",
    "family_of",
    "find_family",
    "layer_list",
    "word_embedding",
    "word_path",
]

GROUP = "edgecompress.families"
"""The entry points by which third parties describe theirs."""


@functools.cache
def _ours() -> dict[str, Family]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            family = described(module.__name__, module.FAMILY)
            found[family.model_type] = family
    return found


def family_names() -> tuple[str, ...]:
    """Give every ``model_type`` that is described, sorted."""
    return tuple(sorted({*_ours(), *(point.name for point in entry_points(group=GROUP))}))


def family_named(model_type: str) -> Family:
    """Find the description of a ``model_type``.

    Raises
    ------
    DataError
        When there is none; the text says what would have to be described.
    StageError
        When a third party's entry point does not name a `Family`.
    """
    if model_type in _ours():
        return _ours()[model_type]
    for point in entry_points(group=GROUP, name=model_type):
        return described(f"the entry point {point.value} of the group {GROUP}", point.load())
    raise DataError(
        f"models of the type {model_type!r} are not supported; supported are: "
        f"{', '.join(family_names())}. To add it, describe in a Family where its list of layers, "
        "word embedding, query, key, value, output and feed-forward matrices lie and which "
        f"attributes hold the number and width of its heads, as an entry point of the group "
        f"{GROUP}. Channels of convolutional networks are removed by prune.channels"
    )


def family_of(config: Any) -> Family:
    """Find the family of a transformers configuration.

    Raises
    ------
    DataError
        When its ``model_type`` is not described.
    """
    return family_named(str(getattr(config, "model_type", "") or ""))


def find_family(config: Any) -> Family | None:
    """Find the family of a transformers configuration; None where nobody describes it."""
    try:
        return family_of(config)
    except DataError:
        return None


def check_directory(directory: Path) -> None:
    """Refuse a model directory of a family that nobody describes; needs no torch.

    A directory without a readable config.json is left to whoever opens it.

    Raises
    ------
    DataError
        Naming the file, and what would have to be described.
    """
    kind = _type_in(directory)
    if kind is not None:
        try:
            family_named(kind)
        except DataError as error:
            raise DataError(error.message, file=directory / "config.json") from None


def described_in(directory: Path) -> Family | None:
    """Find the family of a model directory; None where nobody describes it. Needs no torch."""
    kind = _type_in(directory)
    try:
        return None if kind is None else family_named(kind)
    except DataError:
        return None


def _type_in(directory: Path) -> str | None:
    try:
        document = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = document.get("model_type") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else None


def layer_list(module: Any) -> nn.ModuleList:
    """Give a model's layers in the order in which they run; one that runs twice twice.

    The list is the caller's: what is put into it changes no model.
    """
    from torch import nn

    return nn.ModuleList(family_of(module.config).run_layers(module))


def blocks(module: Any) -> Iterator[Block]:
    """Go through a model's blocks, first to last; those that share their weights come once."""
    family = family_of(module.config)
    for layer in family.distinct_layers(module):
        yield Block(layer, family)


def word_embedding(module: Any) -> nn.Embedding:
    """Give the table with one row for each word piece, shape (vocabulary, width).

    Its width is the rank where the embedding is a product (`surgery.low_rank.LowRankEmbedding`).
    """
    from torch import nn

    found = module.base_model.get_submodule(word_path(module))
    if not isinstance(found, nn.Embedding):
        kind = family_of(module.config).model_type
        raise DataError(f"{word_path(module)} of this {kind} model is no embedding")
    return found


def word_path(module: Any) -> str:
    """Give the path of `word_embedding`, from the base model.

    Raises
    ------
    DataError
        When models of this family read no text.
    """
    from edgecompress.surgery.low_rank import LowRankEmbedding
    from edgecompress.surgery.sharing import SharedEmbedding

    family = family_of(module.config)
    path = family.words
    if not path:
        raise DataError(
            f"models of the type {family.model_type!r} read no text, and have no word embedding to "
            "work on; leave it out"
        )
    while isinstance(module.base_model.get_submodule(path), LowRankEmbedding | SharedEmbedding):
        path += ".table"
    return path
