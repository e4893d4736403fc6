"""A model's folder in Hugging Face's form, looked at before anything of it is loaded; no torch.

Folders come from strangers. So the weights are what lies in the folder itself and nothing that it
points at, in safetensors unless pickles are trusted; an adapter that lies beside a model is named
instead of left out in silence; and what is read is a list of files, whose digests are part of
every result's key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.reading import open_regular, read_json
from edgecompress.values import Json, file_digest

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers looks for them, safetensors first."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
ADAPTERS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_adapter.bin",
)
"""Files of PEFT and of adapter-transformers: weights that are added to a model's own."""
LARGEST = 16_000_000
"""Bytes of a configuration, an index or the head of a file of weights; real ones have a tenth."""

PART_FOLDERS = "[0-9]*_*"
"""Names of folders that hold parts of a model, as sentence-transformers calls them."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """What a checkpoint's weights are.

    Attributes
    ----------
    files : tuple of Path
        The files that hold them.
    pickle : bool
        Whether one of them is a pickle.
    shapes : mapping of str to tuple of int, or None
        Shape of each tensor by its name; None where that cannot be read without loading (pickles).
    """

    files: tuple[Path, ...]
    pickle: bool
    shapes: Mapping[str, tuple[int, ...]] | None


def check_folder(folder: Path) -> Json:
    """Refuse a folder that is no whole model, or that points out of itself; give config.json.

    Raises
    ------
    DataError
        Naming the file, and what to do.
    """
    adapter = next((folder / name for name in ADAPTERS if (folder / name).exists()), None)
    if adapter is not None:
        raise DataError(
            "an adapter lies here, whose weights would be left out; merge it into the model first "
            "(PEFT: `model.merge_and_unload()`, then `save_pretrained`) and name that folder",
            file=adapter,
        )
    if not (folder / "config.json").is_file():
        raise DataError("no config.json in the teacher's directory", file=folder)
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not stays_inside(path, folder):
            raise DataError(
                "a link that leads out of the model's folder; put the file itself there", file=path
            )
    _check_tokenizer(folder)
    config = read_object(folder / "config.json")
    if config.get("transformers_weights") is not None:
        raise DataError(
            "transformers_weights names another file of weights; take the key out and call the "
            "file model.safetensors",
            file=folder / "config.json",
        )
    return config


def find_weights(folder: Path, trust: bool = False) -> WeightFiles:
    """Find the files that hold a checkpoint's weights, and read the names and shapes in them.

    Parameters
    ----------
    folder : Path
    trust : bool
        Whether pickles may be read.

    Raises
    ------
    DataError
        When there are none, one is missing, outside the folder, damaged, or a pickle that is not
        trusted.
    """
    names = [name for name in (*WEIGHTS, *PICKLES) if (folder / name).is_file()]
    if not names:
        raise DataError("no model.safetensors in the teacher's directory", file=folder)
    chosen = folder / names[0]
    files = _indexed(chosen) if chosen.suffix == ".json" else (chosen,)
    pickle = any(file.suffix != ".safetensors" for file in files)
    if pickle and not trust:
        named = f"{names[0]} names a pickle: " if chosen.suffix == ".json" else ""
        raise DataError(
            f"{named}pickle checkpoint refused (it can run code when it is read); convert it to "
            "safetensors, or say `trust: pickle`",
            file=folder,
        )
    if pickle:
        return WeightFiles(files, True, None)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        shapes |= tensor_shapes(file)
    return WeightFiles(files, False, shapes)


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Read the name and shape of every tensor from the head of a safetensors file.

    Source of the format: https://huggingface.co/docs/safetensors, "Format".

    Raises
    ------
    DataError
        When the file is damaged.
    """
    try:
        with open_regular(file) as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 2 <= size <= LARGEST:
                raise ValueError("its head has an impossible size")
            document = json.loads(stream.read(size))
        found = {
            str(name): tuple(int(size) for size in entry["shape"])
            for name, entry in document.items()
            if name != "__metadata__"
        }
        # Names that `training` has tied are written once (`surgery.tying`).
        tied = json.loads(document.get("__metadata__", {}).get("tied", "{}"))
        return {**found, **{name: found[first] for name, first in tied.items()}}
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"the weights of the teacher {file.parent.name!r} cannot be read ({error}); copy the "
            "file again",
            file=file,
        ) from None


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that may be read of a checkpoint, by name: those in the folder itself.

    So are those of sentence-transformers' parts, such as ``1_Pooling``, in folders of their own.

    `check_folder` and `find_weights` refuse what would lead anywhere else.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    parts = (path for path in folder.glob(f"{PART_FOLDERS}/*") if path.is_file())
    found = {path.name: file_digest(path) for path in files}
    return found | {f"{one.parent.name}/{one.name}": file_digest(one) for one in sorted(parts)}


def has_tokenizer(folder: Path) -> bool:
    """Say whether one of the files lies there of which a tokenizer can be read."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def read_object(file: Path) -> Json:
    """Read a JSON object of a model's folder.

    Raises
    ------
    DataError
        When it is no regular file, too large, or not a JSON object.
    """
    try:
        found = read_json(file, LARGEST)
    except DataError as error:
        what = f"no configuration that can be read: {error.message}; copy the file again"
        raise DataError(what, file=file, line=error.line) from None
    if not isinstance(found, dict):
        raise DataError("no configuration that can be read: not an object of keys", file=file)
    return found


def _indexed(index: Path) -> tuple[Path, ...]:
    """Give the files that an index names: plain names of files beside it, and nothing else."""
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise DataError("names no weights; copy the index again", file=index)
    names = sorted({str(name) for name in listed.values()})
    for name in names:
        if Path(name).name != name or "\\" in name or name in (".", ".."):
            raise DataError(
                f"names {name!r}, which is outside the model's folder; an index names the files "
                "beside it and no others",
                file=index,
            )
        if not (index.parent / name).is_file():
            raise DataError(f"names {name!r}, which is not there; copy it as well", file=index)
    return tuple(index.parent / name for name in names)


def stays_inside(link: Path, folder: Path) -> bool:
    """Say whether a link ends in its folder, or where the hub's cache keeps the same repository."""
    home = folder.resolve()
    try:
        end = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    if home.parent.name == "snapshots" and end.is_relative_to(home.parent.parent / "blobs"):
        return True
    return end.is_relative_to(home)


def _check_tokenizer(folder: Path) -> None:
    """Refuse tokenizer settings that name files elsewhere, which transformers would read."""
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return
    for key, value in read_object(file).items():
        if not key.endswith("_file") or not isinstance(value, str):
            continue
        # Names that no longer exist are what older versions of transformers left behind.
        outside = Path(value).name != value and (Path(value).exists() or (folder / value).exists())
        if outside:
            raise DataError(
                f"{key} names a file outside the model's folder; take the key out and put the "
                "file there",
                file=file,
            )
