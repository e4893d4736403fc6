"""Folders that other tools export to: a graph beside its configuration and tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.values import OnnxModel

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pt", "*.pth", "*.safetensors.index.json")
OURS = ("candidate.json", "manifest.json")
USUAL = "model.onnx"
PARTS = ("encoder", "decoder")
"""Graphs that belong together, each in a file of its name; Optimum adds ``_model``."""


def onnx_model_at(place: Path) -> OnnxModel | None:
    """Give the ONNX model that a path means: a file, or a folder of one graph or several parts.

    Returns
    -------
    OnnxModel or None
        None where a folder is none that another tool wrote graphs into.

    Raises
    ------
    DataError
        When a folder holds several graphs of which one must be named.
    """
    if place.suffix == ".onnx" or place.is_file():
        return OnnxModel(place)
    found = _in_folder(place)
    if len(found) > 1:
        parts = zip(PARTS, found, strict=True)
        return OnnxModel.of({name: OnnxModel(file) for name, file in parts})
    return OnnxModel(found[0]) if found else None


def onnx_in_folder(folder: Path) -> Path | None:
    """Give the ONNX file of a folder as Optimum writes it, or of its folder ``onnx``.

    Returns
    -------
    Path or None
        None where `folder` is no folder, has no ``config.json``, holds PyTorch weights, is of our
        own making, or has no ONNX file.

    Raises
    ------
    DataError
        When there are several, none of them ``model.onnx``, so that one must be named.
    """
    found = _in_folder(folder)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise DataError(f"there are several graphs ({names}); name one", file=folder)
    return found[0] if found else None


def main_graphs(names: Iterable[str]) -> list[str]:
    """Choose the graphs of a model among the paths of its files below its folder.

    Returns
    -------
    list of str
        One, or of a model of several parts those of `PARTS`; empty where there is none.

    Raises
    ------
    DataError
        When there are several, none of them ``model.onnx``, so that one must be named.
    """
    every = sorted(name for name in names if name.endswith(".onnx"))
    for place in ("", "onnx/"):
        found = [name for name in every if name.rpartition("/")[0] + "/" * bool(place) == place]
        if place + USUAL in found or len(found) == 1:
            return [place + USUAL] if place + USUAL in found else found
        parts = [
            next((one for one in (f"{place}{part}_model.onnx", f"{place}{part}.onnx")
                  if one in found), "")
            for part in PARTS
        ]  # fmt: skip
        if all(parts):
            return parts
        if found:
            raise DataError(f"there are several graphs ({', '.join(found)}); name one")
    return []


def graphs_in(folder: Path) -> list[str]:
    """Give the `main_graphs` of a folder."""
    files = (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx"))
    return main_graphs(path.relative_to(folder).as_posix() for path in files)


def _in_folder(folder: Path) -> list[Path]:
    """Give the graphs of a folder that another tool wrote, without weights of PyTorch."""
    if not folder.is_dir() or any((folder / name).is_file() for name in OURS):
        return []
    if any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
        return []
    described = (folder / "config.json").is_file()
    try:
        found = graphs_in(folder)
    except DataError as error:
        if described:
            raise DataError(error.message, file=folder) from None
        return []
    return [folder / name for name in found] if described or len(found) > 1 else []
