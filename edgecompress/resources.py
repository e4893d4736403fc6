"""Where the recipes of ``models/`` and the definitions of ``calibration/`` lie.

An installed wheel carries both inside the package; in a checkout they stand at the top level.
"""

from __future__ import annotations

from pathlib import Path

INSIDE = {"models": "recipes"}
"""Folders with another name inside the package, where a room of the code has theirs."""


def resource_folder(name: str) -> Path:
    """Give the folder ``models`` or ``calibration`` of this installation."""
    package = Path(__file__).parent
    inside = package / INSIDE.get(name, name)
    return inside if inside.is_dir() else package.parent / name
