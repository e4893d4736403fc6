"""Folders that other tools export to: a graph beside its configuration and tokenizer."""

from __future__ import annotations

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
    if parts := _parts_in_folder(place):
        return OnnxModel.of({name: OnnxModel(file) for name, file in parts.items()})
    graph = onnx_in_folder(place)
    return OnnxModel(graph) if graph is not None else None


def _parts_in_folder(folder: Path) -> dict[str, Path]:
    """Give the graphs of a model of several parts by part; none where one of them is missing."""
    for place in (folder, folder / "onnx") if _of_graphs(folder) else ():
        found = {
            name: file
            for name in PARTS
            for file in (place / f"{name}_model.onnx", place / f"{name}.onnx")
            if file.is_file()
        }
        if len(found) == len(PARTS) and not (place / USUAL).is_file():
            return found
    return {}


def _of_graphs(folder: Path) -> bool:
    """Tell whether a folder is another tool's, and holds no PyTorch weights."""
    if not folder.is_dir() or any((folder / name).is_file() for name in OURS):
        return False
    return not any(True for pattern in WEIGHTS for _ in folder.glob(pattern))


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
    if not _of_graphs(folder) or not (folder / "config.json").is_file():
        return None
    for place in (folder, folder / "onnx"):
        found = sorted(place.glob("*.onnx"))
        if len(found) == 1:
            return found[0]
        if found:
            usual = place / USUAL
            if usual in found:
                return usual
            names = ", ".join(str(path.relative_to(folder)) for path in found)
            raise DataError(f"the folder holds several graphs ({names}); name one", file=folder)
    return None
