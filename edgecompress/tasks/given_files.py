"""Files among the inputs of examples: how a person, a data file and a request give one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.words import shortened

Given = TypeVar("Given")


def is_record(value: Any) -> bool:
    """Whether a value is what Hugging Face's datasets stores for a file: its bytes, its path."""
    if not isinstance(value, Mapping):
        return False
    held, path = value.get("bytes"), value.get("path")
    kinds = isinstance(held, bytes | bytearray | None) and isinstance(path, str | None)
    return bool(value) and set(value) <= {"bytes", "path"} and kinds


def file_from(value: Any, folder: Path, what: str) -> Path | bytes:
    """Give the file that a value means, or what one holds; a path is relative to `folder`.

    Raises
    ------
    DataError
        When the path is empty.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or ""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not value:
        raise DataError(f"{what} is named by an empty path")
    return folder / at_home(value)


def in_file(made: Callable[[Any, Path], Given], value: Any, folder: Path) -> Given:
    """Make what a cell of a data file means, and name the cell where it cannot be read."""
    try:
        return made(value, folder)
    except DataError as error:
        named = value.get("path") if isinstance(value, Mapping) else value
        place = f"{shortened(named, 80)}: " if isinstance(named, str) and named else ""
        raise DataError(f"{place}{error.message}") from None


def bytes_in_request(value: Any, name: str) -> bytes:
    """Give the bytes of a file in a request: as they are (of a form), or in base64.

    ``data:…;base64,`` may stand ahead of the latter.

    Raises
    ------
    DataError
        When it is none. A path is never followed: whoever asks is a stranger.
    """
    content = value
    if not isinstance(value, bytes):
        text = str(value)
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            content = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise DataError(
                f"{name} must be a file's bytes in base64, or a file in a form ({name}=@file)"
            ) from None
    if not content:
        raise DataError(f"{name} is empty; send a file's bytes")
    return bytes(content)
