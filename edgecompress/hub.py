"""Where a model lies: a folder, or an id of the Hugging Face hub that is fetched into its cache.

A hub's model is brought to this machine first and then read like any other folder, so that the same
checks and digests hold for both. Without a network that takes seconds, not minutes.
"""

from __future__ import annotations

import difflib
import functools
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecompress.checkpoint import TOKENIZER_FILES, read_object
from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.words import shortened

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
PATIENCE_S = 10
"""How long the hub may take to answer at all; looking its name up is part of it."""
DATA_FILES = [
    f"*.{suffix}" for suffix in ("arrow", "csv", "json", "jsonl", "md", "parquet", "tsv", "txt")
]
"""Files of a data set; no code."""
SUFFIXES = (".json", ".safetensors", ".txt", ".model")
PARTS = re.compile(r"\d+_\w+/(config\.json|model\.safetensors)")
"""Files of sentence-transformers' parts behind an encoder, in folders of their own."""
"""Files of a model and its tokenizer, pickles apart."""
LIKE = 0.75
"""How alike two names are (`difflib`) where one is taken for a mistyped other."""


def model_folder(model: str, bases: Sequence[Path] = ()) -> Path:
    """Give the folder of a model; one of the hub is fetched.

    Parameters
    ----------
    model : str
        A folder, or a hub id.
    bases : sequence of Path
        Folders in which a mistyped name is looked for beside the working directory.

    Raises
    ------
    DataError
        When it is neither, or the hub cannot be reached and its cache does not have it.
    """
    place = at_home(model)
    if place.is_dir():
        return place
    check_name(model, bases)
    return cached_folder(model) or _fetched(model)


def check_name(model: str, bases: Sequence[Path] = ()) -> None:
    """Refuse a name that is no folder and no hub id, or that is a mistyped folder's.

    Raises
    ------
    DataError
        With the nearest right name where there is one.
    """
    place = at_home(model)
    if place.is_dir():
        return
    if place.exists():
        raise DataError("a model must be a directory or a hub id", file=place)
    near = _nearest_folder(place, (*bases, Path.cwd()))
    if near is not None and cached_folder(model) is None:
        raise DataError(
            f"there is no model {model!r} on this machine; did you mean {near!r}? "
            "(a model of the hub is written ORG/NAME)"
        )
    first = Path(model).parts[0] if model else ""
    beside = "/" in model and any((base / first).is_dir() for base in (*bases, Path.cwd()))
    if beside or not HUB_ID.fullmatch(model):
        raise DataError(
            "a model must be a directory or a hub id, and there is no such directory",
            file=place,
        )


@functools.lru_cache(maxsize=8)
def data_set_folder(name: str, revision: str | None = None) -> Path:
    """Give the folder of the hub's data set `name`; what is not in the cache is fetched.

    Raises
    ------
    DataError
        When there is none, or the hub cannot be reached and its cache does not have it.
    """
    from huggingface_hub import snapshot_download

    if not HUB_ID.fullmatch(name):
        raise DataError(f"a data set of the hub is written ORG/NAME, not {shortened(name, 60)!r}")
    options: dict[str, Any] = {"repo_type": "dataset", "allow_patterns": DATA_FILES}
    try:
        info = _described(name, "data set", revision)
    except DataError:
        try:  # as it was when it was last fetched
            return Path(snapshot_download(name, revision=revision, local_files_only=True,
                                          **options))  # fmt: skip
        except (OSError, ValueError):
            pass
        raise
    try:
        return Path(snapshot_download(name, revision=info.sha, etag_timeout=PATIENCE_S, **options))
    except Exception as error:  # noqa: BLE001 - whatever the connection may raise
        raise DataError(f"the data set {name!r} cannot be fetched ({_short(error)})") from None


def cached_folder(model: str) -> Path | None:
    """Give a hub's model as its cache has it, without a network; None where it is not whole."""
    if not HUB_ID.fullmatch(model):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    # What another program fetched of it may be a part.
    has = {path.name for path in found.iterdir()}
    weights = bool(has & {"model.safetensors", "pytorch_model.bin"})
    for index in has & {"model.safetensors.index.json", "pytorch_model.bin.index.json"}:
        weights |= _shards(found / index) <= has
    return found if weights and "config.json" in has and has & set(TOKENIZER_FILES) else None


def _shards(index: Path) -> set[str]:
    listed = read_object(index).get("weight_map")
    return set(map(str, listed.values())) if isinstance(listed, dict) else {""}


def _fetched(model: str) -> Path:
    """Fetch a model's files from the hub: the weights in one form, and no code."""
    from huggingface_hub import snapshot_download

    info = _described(model)
    every = [one.rfilename for one in info.siblings or ()]
    names = [name for name in every if "/" not in name]
    wanted = [name for name in names if name.endswith(SUFFIXES) or name == "README.md"]
    wanted += [name for name in every if PARTS.fullmatch(name)]
    if not any(name.endswith(".safetensors") for name in names):
        wanted += [name for name in names if name.startswith("pytorch_model")]
    try:
        return Path(snapshot_download(model, revision=info.sha, allow_patterns=wanted,
                                      etag_timeout=PATIENCE_S))  # fmt: skip
    except Exception as error:  # noqa: BLE001 - whatever the connection may raise
        raise DataError(f"the model {model!r} cannot be fetched ({_short(error)})") from None


def _described(model: str, kind: str = "model", revision: str | None = None) -> Any:
    """Ask the hub once, for `PATIENCE_S` at most: looking a name up has no limit of its own."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    found: list[Any] = []

    def ask() -> None:
        try:
            api = HfApi()
            info = api.model_info if kind == "model" else api.dataset_info
            found.append(info(model, revision=revision, timeout=PATIENCE_S))
        except Exception as error:  # noqa: BLE001 - said by the one who asked
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    answer = found[0] if found else TimeoutError(f"no answer within {PATIENCE_S} s")
    if kind != "model" and isinstance(answer, Exception):
        if isinstance(answer, RepositoryNotFoundError):
            raise DataError(f"the hub has no {kind} {model!r} (or it is private); correct the name")
        raise DataError(
            f"the {kind} {model!r} cannot be fetched, as the hub cannot be reached "
            f"({type(answer).__name__}); fetch it where there is a network and name its folder"
        )
    if isinstance(answer, RepositoryNotFoundError):
        raise DataError(
            f"there is no folder {model!r} on this machine and no such model on the hub (or it is "
            "private); correct the name"
        )
    if isinstance(answer, Exception):
        raise DataError(
            f"there is no folder {model!r} on this machine, and the hub that may have a model of "
            f"that name cannot be reached ({type(answer).__name__}); correct the name, or fetch "
            "the model where there is a network and name its folder"
        )
    return answer


def _nearest_folder(place: Path, bases: Sequence[Path]) -> str | None:
    """Give the model's folder whose name is nearly that of `place`, as a recipe would write it."""
    for base in bases:
        parent = (base / place).parent
        try:
            names = [path.name for path in parent.iterdir() if _is_model(path)]
        except OSError:
            continue
        near = difflib.get_close_matches(place.name, names, n=1, cutoff=LIKE)
        if near:
            return str(place.parent / near[0])
    return None


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "candidate.json"))


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
