"""Images among the inputs of examples: how a person, a data file and a request give one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.processors.pictures import Picture, array_of, check_picture, checked_array
from edgecompress.tasks.asking import Field
from edgecompress.tasks.given_files import bytes_in_request, file_from, in_file, is_record
from edgecompress.values import Example


def is_picture(value: Any) -> bool:
    """Whether a value is one: a path, a file's bytes, an array, an image of Pillow's or a record.

    Hugging Face's datasets stores ``{"bytes": …, "path": …}``.
    """
    plain = isinstance(value, str | Path | bytes | bytearray | np.ndarray)
    return plain or is_record(value) or _of_pillow(value)


def picture_from(value: Any, folder: Path = Path()) -> Picture:
    """Give the picture that a value means; a path is relative to `folder`.

    Raises
    ------
    DataError
        When it cannot be read to its end.
    """
    if isinstance(value, np.ndarray):
        return checked_array(value)
    if _of_pillow(value):
        return array_of(value)
    return check_picture(file_from(value, folder, "an image"))


def picture_in_file(value: Any, folder: Path) -> Picture:
    """Give the picture that a cell of a data file means, and name it where it cannot be read."""
    return in_file(picture_from, value, folder)


def picture_in_request(value: Any) -> Picture:
    """Give the picture that base64 in a request holds; ``data:image/…;base64,`` may stand ahead.

    Raises
    ------
    DataError
        When it is none. A path is never followed: whoever asks is a stranger.
    """
    return bytes_in_request(value, IMAGE.name)


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
