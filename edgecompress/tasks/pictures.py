"""Images among the inputs of examples: how a person, a data file and a request give one."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.errors import DataError
from edgecompress.processors.pictures import Picture, array_of, check_picture, checked_array
from edgecompress.reading import at_home
from edgecompress.tasks.asking import Field
from edgecompress.values import Example
from edgecompress.words import shortened


def is_picture(value: Any) -> bool:
    """Whether a value is one: a path, a file's bytes, an array, an image of Pillow's or a record.

    Hugging Face's datasets stores ``{"bytes": …, "path": …}``.
    """
    if isinstance(value, Mapping):
        held, path = value.get("bytes"), value.get("path")
        kinds = isinstance(held, bytes | bytearray | None) and isinstance(path, str | None)
        return bool(value) and set(value) <= {"bytes", "path"} and kinds
    return isinstance(value, str | Path | bytes | bytearray | np.ndarray) or _of_pillow(value)


def picture_from(value: Any, folder: Path = Path()) -> Picture:
    """Give the picture that a value means; a path is relative to `folder`.

    Raises
    ------
    DataError
        When it cannot be read to its end.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or ""
    if isinstance(value, np.ndarray):
        return checked_array(value)
    if _of_pillow(value):
        return array_of(value)
    if isinstance(value, bytes | bytearray):
        return check_picture(bytes(value))
    if not value:
        raise DataError("an image is named by an empty path")
    return check_picture(folder / at_home(value))


def picture_in_file(value: Any, folder: Path) -> Picture:
    """Give the picture that a cell of a data file means, and name it where it cannot be read."""
    try:
        return picture_from(value, folder)
    except DataError as error:
        named = value.get("path") if isinstance(value, Mapping) else value
        place = f"{shortened(named, 80)}: " if isinstance(named, str) and named else ""
        raise DataError(f"{place}{error.message}") from None


def picture_in_request(value: Any) -> Picture:
    """Give the picture that base64 in a request holds; ``data:image/…;base64,`` may stand ahead.

    Raises
    ------
    DataError
        When it is none. A path is never followed: whoever asks is a stranger.
    """
    text = str(value)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise DataError("image must be a file's bytes in base64") from None
    if not content:
        raise DataError("image is empty; send a file's bytes in base64")
    return content


IMAGE = Field(
    "image",
    "an image (a path or bytes; over HTTP its bytes in base64)",
    '"<base64>"',
    is_picture,
    "images",
    picture_in_file,
    picture_in_request,
)


def picture_of(example: Example) -> Picture:
    """Give the picture of an example."""
    found: Picture = example.inputs["image"]
    return found


def _of_pillow(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "getbands")
