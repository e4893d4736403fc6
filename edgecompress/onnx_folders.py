"""Folders that other tools export to: a graph beside its configuration and tokenizer."""

from __future__ import annotations

from pathlib import Path

from edgecompress.errors import DataError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pt", "*.pth", "*.safetensors.index.json")
OURS = ("candidate.json", "manifest.json")
USUAL = "model.onnx"


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
    if not folder.is_dir() or any((folder / name).is_file() for name in OURS):
        return None
    if not (folder / "config.json").is_file():
        return None
    if any(True for pattern in WEIGHTS for _ in folder.glob(pattern)):
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
