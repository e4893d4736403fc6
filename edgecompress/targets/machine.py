"""What this machine is: the facts that a reader needs beside every figure."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import tempfile
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.private import own_folder
from edgecompress.targets.agent.describe import describe
from edgecompress.values import Json, json_digest

LIBRARIES = (
    "edgecompress",
    "numpy",
    "onnx",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "neural-compressor",
    "tokenizers",
    "torch",
    "torchao",
    "transformers",
)
FACTS = ("machine", "board", "cpu", "flags", "cores", "python", "governor")
"""What timings and int8 answers depend on, beside the libraries."""


def cache_folder() -> Path:
    """Give the user's cache folder of edgecompress, made; one in /tmp where there is no home.

    What lies in it may be executed, so it is this user's alone (`edgecompress.private`).

    Raises
    ------
    TargetError
        When there is no place that is.
    """
    import platformdirs

    folder = platformdirs.user_cache_path("edgecompress")
    try:
        reason = own_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:  # no home, or one that cannot be written
        reason = f"{folder} cannot be written ({error.strerror})"
    if reason is None:
        return folder
    instead = Path(tempfile.gettempdir()) / f"edgecompress-{os.getuid()}"
    try:
        other = own_folder(instead)
    except OSError as error:
        other = f"{instead} cannot be written ({error.strerror})"
    if other is not None:
        raise TargetError(
            f"there is no private folder to keep programs in: {reason}, and {other}; set "
            "XDG_CACHE_HOME to a folder that only you can write"
        )
    return instead


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _environment() -> Json:
    return {
        **describe(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def environment() -> Json:
    """Describe this machine: CPU and its flags, cores, memory, system, library versions.

    Nothing that names a person or a place: no host name, no user, no path.
    """
    return dict(_environment())


def fingerprint() -> str:
    """Digest of what timings and int8 answers depend on here."""
    facts = _environment()
    return fingerprint_of(facts, ("numpy", "onnxruntime", "torch"))


def fingerprint_of(facts: Json, libraries: tuple[str, ...] = ("numpy", "onnxruntime")) -> str:
    """Digest of a machine's description as far as its readings depend on it."""
    runtime = {name: facts["libraries"].get(name) for name in libraries}
    return json_digest({key: facts.get(key) for key in FACTS} | {"libraries": runtime})
