"""What sentence-transformers writes beside an encoder: how one vector is made of its tokens.

``modules.json`` lists the parts (`Transformer`, `Pooling`, `Dense`, `Normalize`), each with a
folder of its own; ``config_sentence_transformers.json`` holds the prompts,
``sentence_bert_config.json`` the longest input. Source: sentence-transformers 2 to 6,
https://sbert.net/docs/package_reference/sentence_transformer/models.html. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.checkpoint import LARGEST, PART_FOLDERS, read_object, stays_inside
from edgecompress.errors import DataError
from edgecompress.reading import read_json, read_optional
from edgecompress.values import Json

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
LIMITS = "sentence_bert_config.json"
WEIGHTS = "model.safetensors"

POOLINGS: Mapping[str, tuple[str, ...]] = {
    "cls": ("pooling_mode_cls_token",),
    "max": ("pooling_mode_max_tokens",),
    "mean": ("pooling_mode_mean_tokens",),
    "mean_sqrt_len_tokens": ("pooling_mode_mean_sqrt_len_tokens",),
    "weightedmean": ("pooling_mode_weightedmean_tokens",),
    "lasttoken": ("pooling_mode_lasttoken",),
}
"""Names of ways to pool, in the order in which several are put one after the other, and the keys
that switch them on."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")
"""Classes of torch.nn that may follow a dense layer."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer behind the pooling.

    Attributes
    ----------
    width : int
        Of what it gives.
    activation : str
        One of `ACTIVATIONS`.
    bias : bool
    weights : Path or None
        Where its weights lie; None for new ones.
    """

    width: int
    activation: str = "Identity"
    bias: bool = True
    weights: Path | None = None


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """How one vector is made of the states of the tokens.

    Attributes
    ----------
    pooling : tuple of str
        Of `POOLINGS`; several are put one after the other.
    dense : tuple of Dense
    normalize : bool
        Whether vectors have the length 1.
    dimensions : int or None
        How many numbers of each vector are given, before it gets its length; None for all.
    """

    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[Dense, ...] = ()
    normalize: bool = True
    dimensions: int | None = None

    def to_json(self) -> Json:
        """Give it as config.json keeps it."""
        return {
            "pooling": list(self.pooling),
            "dense": [
                {"width": one.width, "activation": one.activation, "bias": one.bias}
                for one in self.dense
            ],
            "normalize": self.normalize,
            **({"dimensions": self.dimensions} if self.dimensions else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SentenceModules:
        """Rebuild it; ValueError, KeyError or TypeError where it is damaged."""
        pooling = tuple(map(str, document["pooling"]))
        dense = tuple(
            Dense(int(one["width"]), str(one["activation"]), bool(one["bias"]))
            for one in document["dense"]
        )
        unknown = {*pooling} - {*POOLINGS} or {one.activation for one in dense} - {*ACTIVATIONS}
        if unknown or not pooling:
            raise ValueError(f"unknown {min(unknown, default='pooling')}")
        dimensions = document.get("dimensions")
        length = None if dimensions is None else int(dimensions)
        return cls(pooling, dense, bool(document["normalize"]), length)


def has_modules(folder: Path) -> bool:
    """Say whether a folder has sentence-transformers' form."""
    return (folder / MODULES).is_file()


def read_modules(folder: Path) -> SentenceModules:
    """Read how a checkpoint makes a vector of a text.

    Raises
    ------
    DataError
        When a file is missing or damaged, or a part is of a kind that is not known here.
    """
    file = folder / MODULES
    if not file.is_file():
        raise DataError(
            "there is no modules.json, which says how one vector is made of the tokens of a text; "
            "save the model with sentence-transformers (`model.save(folder)`)",
            file=folder,
        )
    listed = read_json(file, LARGEST)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise DataError("must be a list of parts with a type and a path", file=file)
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in listed]
    order = [kind for kind in kinds if kind != "Dense"]
    if order not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or (
        kinds[:2] != order[:2] or ("Normalize" in kinds and kinds[-1] != "Normalize")
    ):
        raise DataError(
            f"lists {', '.join(kinds) or 'nothing'}; known is a Transformer with Pooling, then any "
            "Dense, and Normalize as the last",
            file=file,
        )
    places = [_inside(folder, str(one.get("path", "")), file) for one in listed]
    if places[0] != folder:
        raise DataError(
            f"its encoder lies in {places[0].name!r}; put the files of that folder beside "
            "modules.json, and an empty path there",
            file=file,
        )
    dense = tuple(_dense(place) for place, kind in zip(places, kinds, strict=True)
                  if kind == "Dense")  # fmt: skip
    return SentenceModules(_pooling(places[1]), dense, "Normalize" in kinds)


def prompts_of(folder: Path) -> tuple[dict[str, str], str]:
    """Read the prompts of a folder by their names, and the name of the usual one, or ''.

    Raises
    ------
    DataError
        When the file is damaged, or names a usual prompt that it does not have.
    """
    file = folder / PROMPTS
    document = read_optional(file)
    found, usual = document.get("prompts") or {}, document.get("default_prompt_name") or ""
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise DataError("prompts must be texts by their names", file=file)
    if usual and usual not in found:
        raise DataError(f"default_prompt_name is {usual!r}, and no prompt is called so", file=file)
    return {str(name): text for name, text in found.items()}, str(usual)


def limits_of(folder: Path) -> tuple[int | None, bool]:
    """Read the longest input in tokens, where one is said, and whether texts are in small letters.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    file = folder / LIMITS
    document = read_optional(file)
    most = document.get("max_seq_length")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise DataError("max_seq_length must be a number of tokens", file=file)
    return most, document.get("do_lower_case") is True


def _inside(folder: Path, path: str, file: Path) -> Path:
    """Give the folder of a part: the model's own, or one directly in it."""
    if Path(path).name != path.rstrip("/") or path in (".", ".."):
        raise DataError(f"names the folder {path!r}, which is outside the model's", file=file)
    if path and not Path(path).match(PART_FOLDERS):  # what is in others is in no result's key
        raise DataError(
            f"names the folder {path!r}; call it as sentence-transformers does, such as 1_Pooling",
            file=file,
        )
    return folder / path if path else folder


def _settings(place: Path, folder: Path) -> tuple[Json, Path]:
    file = place / "config.json"
    if not file.is_file():
        raise DataError("is missing, and modules.json names its folder", file=file)
    if file.is_symlink() and not stays_inside(file, folder):
        raise DataError("a link that leads out of the model's folder; put the file itself there",
                        file=file)  # fmt: skip
    return read_object(file), file


def _pooling(place: Path) -> tuple[str, ...]:
    document, file = _settings(place, place.parent)
    named = document.get("pooling_mode")  # from version 6 on, else a key for each
    given = [named] if isinstance(named, str) else named
    if given is None:
        given = [name for name, keys in POOLINGS.items() if any(map(document.get, keys))]
    if not isinstance(given, list) or not given or not {*map(str, given)} <= {*POOLINGS}:
        raise DataError(
            f"pools by {given or 'nothing'}; known are {', '.join(POOLINGS)}", file=file
        )
    if document.get("include_prompt") is False:
        prompts, _ = prompts_of(place.parent)
        if any(prompts.values()):
            raise DataError(
                "include_prompt: false leaves the tokens of a prompt out of the vector, which is "
                "not done here",
                file=file,
            )
    return tuple(name for name in POOLINGS if name in given)


def _dense(place: Path) -> Dense:
    document, file = _settings(place, place.parent)
    width = document.get("out_features")
    activation = str(document.get("activation_function") or "Identity").rpartition(".")[2]
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise DataError("out_features must be a number", file=file)
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise DataError(f"activation_function {activation!r} is none of {known}", file=file)
    weights = place / WEIGHTS
    if not weights.is_file() or (weights.is_symlink() and not stays_inside(weights, place.parent)):
        raise DataError(
            "the dense layer has no model.safetensors here (a pickle is not read); save the model "
            "again with a newer sentence-transformers",
            file=place,
        )
    return Dense(width, activation, document.get("bias") is not False, weights)
