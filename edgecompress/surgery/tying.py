"""Parameters under two names: the embedding that is also the head that guesses pieces.

A model file holds such a tensor once; which other names it has stands in the file's metadata, under
``tied``, as JSON from each further name to the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open


def shared_names(module: Any) -> dict[str, str]:
    """Give the further names of a module's parameters, and the first name of each."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        before = first.setdefault(id(parameter), name)
        if before != name:
            found[name] = before
    return found


def metadata(tied: Mapping[str, str]) -> dict[str, str]:
    """Give the metadata of a model file."""
    return {"format": "pt", **({"tied": json.dumps(dict(tied))} if tied else {})}


def read_tied(file: Path) -> dict[str, str]:
    """Read from a model file what `metadata` wrote.

    Raises
    ------
    ValueError
        When it is damaged.
    """
    with safe_open(file, "pt") as opened:
        found = json.loads((opened.metadata() or {}).get("tied", "{}"))
    if not isinstance(found, dict):
        raise ValueError("the record of tied weights is no object")
    return {str(name): str(first) for name, first in found.items()}


def tie(module: Any, tied: Mapping[str, str]) -> None:
    """Make parameters one that `shared_names` found to be one; changes `module`."""
    for name, first in tied.items():
        path, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(path), attribute, module.get_parameter(first))
