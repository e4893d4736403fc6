"""A recipe's paths: made absolute when it is read, without their places when it is written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgecompress.bundle.manifest import portable
from edgecompress.reading import at_home, real
from edgecompress.values import Json

CORPORA = ("corpus", "transfer", "files")
"""Fields of stages that list texts (`edgecompress.data.corpus`)."""


def _inputs(document: Json) -> Any:
    """Give what the recipe says of inputs that are no examples, if it says any."""
    profile = document.get("profile")
    return profile.get("inputs") if isinstance(profile, dict) else None


def absolute_paths(document: Any, base: Path, corpora: Sequence[Path] | None = None) -> Any:
    """Make the recipe's relative paths absolute against `base`, where something lies there.

    Files of stages' corpora are looked for below ``data.root``, then in the folders `corpora`
    (`base` when None); with none, they are left for a later call.
    """
    result = copy.deepcopy(document)
    if not isinstance(result, dict):
        return result
    places = (
        (result.get("teacher"), "model"),
        (result.get("data"), "root"),
        (result, "model"),
        (result, "fleet"),
        (_inputs(result), "file"),
        *(
            (fields, key)
            for fields in _mappings([result.get("stages"), result.get("observers")])
            for key in ("calibration", "inputs", "preprocessor", "compare")
        ),
        *(
            (one, "model")
            for fields in _mappings(result.get("stages"))
            for one in _teachers(fields)
        ),
    )
    for parent, key in places:
        if not isinstance(parent, dict):
            continue
        value = parent.get(key)
        if not isinstance(value, str) or not value or Path(value).is_absolute():
            continue
        if key == "calibration" and not value.endswith((".yaml", ".yml")):
            continue  # the name of one that is installed
        # A model may also be a hub id, so only what lies there becomes a path.
        if (base / value).exists() or (key == "root" and value.startswith(".")):
            parent[key] = real(base / value)
    folders = (base,) if corpora is None else tuple(corpora)
    if folders:
        _corpora(result, lambda value: _found(value, (*_root(result), *folders)))
    return result


def _teachers(fields: Json) -> Sequence[Any]:
    """Give what a stage's field `teachers` lists."""
    found = fields.get("teachers")
    return found if isinstance(found, list) else ()


def _root(document: Json) -> tuple[Path, ...]:
    data = document.get("data")
    root = data.get("root") if isinstance(data, dict) else None
    return (at_home(root),) if isinstance(root, str) and root else ()


def _below(value: str, roots: Sequence[Path]) -> str:
    path = Path(value)
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return value


def _found(value: str, folders: Sequence[Path]) -> str:
    """Make a relative path absolute against the first folder where something lies there."""
    path = at_home(value)
    if path.is_absolute():
        return str(path)
    there = next((folder / path for folder in folders if (folder / path).exists()), None)
    return value if there is None else real(there)


def _corpora(document: Json, place: Callable[[str], str]) -> None:
    """Change, in place, the paths of all corpora of the stages by `place`."""
    for fields in _mappings(document.get("stages")):
        for key in CORPORA:
            listed = fields.get(key)
            if isinstance(listed, list):
                fields[key] = [_entry(entry, place) for entry in listed]
            elif listed is not None:
                fields[key] = _entry(listed, place)


def _entry(entry: Any, place: Callable[[str], str]) -> Any:
    if isinstance(entry, str):
        return entry if entry == "train" else place(entry)
    if isinstance(entry, dict) and isinstance(entry.get("file"), str):
        return {**entry, "file": place(entry["file"])}
    return entry


def _mappings(value: Any) -> Iterator[Json]:
    """Give every mapping inside lists and mappings: the fields of all stages are among them."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _mappings(inner)


def placeless(document: Json) -> Json:
    """Give a recipe without the places where its inputs lie, so that it reads the same elsewhere.

    What the inputs hold is in their digests. Of a path the last part stays (of a corpus in the
    data's folder, the way from there); of the data's folder nothing, as its files have names of
    their own.
    """
    document = copy.deepcopy(document)
    roots = [Path(real(root)) for root in _root(document)]
    _corpora(document, lambda value: _below(value, roots))
    found: Json = portable(document)
    if isinstance(found.get("data"), dict):
        found["data"].pop("root", None)
    return found
