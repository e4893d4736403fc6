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
from edgecompress.onnx_folders import graphs_in, main_graphs
from edgecompress.reading import at_home
from edgecompress.words import shortened

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
PATIENCE_S = 10
"""How long the hub may take to answer at all; looking its name up is part of it."""
DATA_FILES = [
    f"*.{suffix}" for suffix in ("arrow", "csv", "json", "jsonl", "md", "parquet", "tsv", "txt")
]
"""Files of a data set; no code."""
SUFFIXES = (".json", ".txt", ".model")
"""Files of a model and its tokenizer, weights apart."""
PARTS = re.compile(r"\d+_\w+/(config\.json|model\.safetensors)")
"""Files of sentence-transformers' parts behind an encoder, in folders of their own."""
SAFETENSORS = re.compile(r"(adapter_)?model(-\d+-of-\d+)?\.safetensors")
"""Weights that are read, and an adapter's, which are refused; ``model.fp16.safetensors`` is not."""
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


def at_hand(model: str) -> Path:
    """Give where a model lies on this machine, be it the hub's cache; else its name as a path."""
    place = at_home(model)
    return place if place.exists() else cached_folder(model) or place


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
        _described(name, "data set", revision)
    except DataError:
        try:  # as it was when it was last fetched
            return Path(snapshot_download(name, revision=revision, local_files_only=True,
                                          **options))  # fmt: skip
        except (OSError, ValueError):
            pass
        raise
    try:
        return Path(snapshot_download(name, revision=revision, etag_timeout=PATIENCE_S, **options))
    except Exception as error:  # noqa: BLE001 - whatever the connection may raise
        raise DataError(f"the data set {name!r} cannot be fetched ({_short(error)})") from None


def cached_folder(model: str) -> Path | None:
    """Give a hub's model as its cache has it, without a network; None where it is not whole."""
    if not HUB_ID.fullmatch(model):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:  # not `snapshot_download`, which wants all files of the hub to be there
        described = try_to_load_from_cache(model, "config.json")
    except (HFValidationError, OSError, ValueError):
        return None
    if not isinstance(described, str):
        return None
    found = Path(described).parent
    # What another program fetched of it may be a part.
    has = {path.name for path in found.iterdir()}
    weights = bool(has & {"model.safetensors", "pytorch_model.bin"})
    for index in has & {"model.safetensors.index.json", "pytorch_model.bin.index.json"}:
        weights |= _shards(found / index) <= has
    weights = weights or bool(graphs_in(found))
    return found if weights and has & set(TOKENIZER_FILES) else None


def _shards(index: Path) -> set[str]:
    listed = read_object(index).get("weight_map")
    return set(map(str, listed.values())) if isinstance(listed, dict) else {""}


def _fetched(model: str) -> Path:
    """Fetch a model's files from the hub: what `_wanted` names, and no code."""
    from huggingface_hub import snapshot_download

    info = _described(model)
    wanted = _wanted(model, [one.rfilename for one in info.siblings or ()])
    try:
        # By its name and not by its commit: else the cache would not know it by name again.
        return Path(snapshot_download(model, allow_patterns=wanted, etag_timeout=PATIENCE_S))
    except Exception as error:  # noqa: BLE001 - whatever the connection may raise
        raise DataError(f"the model {model!r} cannot be fetched ({_short(error)})") from None


def _wanted(model: str, every: Sequence[str]) -> list[str]:
    """Choose among a model's files: what describes it, and the weights in the first of our forms.

    Raises
    ------
    DataError
        When they are in none, or in several graphs of which one must be named.
    """
    top = [name for name in every if "/" not in name]
    wanted = [name for name in top if name.endswith(SUFFIXES) or name == "README.md"]
    tensors = [name for name in top if SAFETENSORS.fullmatch(name)]
    if tensors:
        return [*wanted, *tensors, *filter(PARTS.fullmatch, every)]
    weights = [name for name in top if name.startswith("pytorch_model")] or main_graphs(every)
    if not weights:
        large = [name for name in every if name not in wanted and not name.startswith(".")]
        raise DataError(
            f"the model {model!r} of the hub has no weights that are read (safetensors, PyTorch's, "
            f"ONNX), but {', '.join(large[:5]) or 'none at all'}; name another model"
        )
    beside = [name for name in every if name.startswith(tuple(weights))]  # external data too
    return [*wanted, *beside]


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
