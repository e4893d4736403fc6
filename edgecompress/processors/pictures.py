"""Images that a person hands over, read with Pillow as red, green and blue: files or their bytes.

They are turned as their EXIF says, as `transformers.image_utils.load_image` does. What has 16 bits
a channel keeps its upper 8; Pillow, and transformers with it, would make nearly all of it white.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgecompress.errors import DataError, MissingExtraError
from edgecompress.reading import PARSER_FAULTS, open_regular, reading

Picture: TypeAlias = "Path | bytes | np.ndarray[Any, Any]"
"""A file, what one holds, or uint8 (height, width, 3) in red, green and blue."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
"""What is looked for in a file, whatever its name says; Pillow knows some that start programs."""
MAX_PIXELS = 50_000_000
"""Of a file, read from its header: what a camera gives, and 150 MB of colours. A few kilobytes of
PNG can claim a hundred times as many."""
MAX_FED_PIXELS = 16_000_000
"""Of what a model is fed, in three floats a pixel: 4,000 × 4,000."""
UNREADABLE = "not an image that can be read"
SMALL = 8  # the eighth of an image's sides, which shows already whether its file is whole


def pillow(part: str) -> Any:
    """Import a part of Pillow, such as ``Image``.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        return importlib.import_module(f"PIL.{part}")
    except ImportError:
        raise MissingExtraError("Pillow", "image") from None


def red_green_blue(picture: Picture) -> Any:
    """Read a picture as a `PIL.Image.Image` of the mode ``RGB``.

    Raises
    ------
    DataError
        When there is none, it is damaged or too large; of a file with its name.
    """
    if isinstance(picture, np.ndarray):
        return pillow("Image").fromarray(checked_array(picture))
    with opened(picture) as image:
        return _upright(image)


def array_of(image: Any) -> np.ndarray[Any, Any]:
    """Give a `PIL.Image.Image` as the array of a picture, turned as a file of it would be.

    Raises
    ------
    DataError
        When it is damaged (Pillow reads a file only when it must) or too large.
    """
    try:
        with reading(Path("image"), UNREADABLE, PARSER_FAULTS):
            check_pixels(image.size, MAX_PIXELS)
            return checked_array(np.asarray(_upright(image)))
    except DataError as error:
        raise DataError(error.message) from None


def check_picture(picture: Picture) -> Picture:
    """See that a picture can be read to its end, as fast as that can be found out; give it back.

    Raises
    ------
    DataError
        As `red_green_blue`.
    """
    if isinstance(picture, np.ndarray):
        return checked_array(picture)
    with opened(picture) as image:
        image.draft("RGB", tuple(max(side // SMALL, 1) for side in image.size))  # of a JPEG
        image.load()
    return picture


def picture_size(picture: Picture) -> tuple[int, int]:
    """Read height and width, as a turned picture has them, from the head of a file."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    with opened(picture) as image:
        width, height = image.size
        sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # the tag «orientation»
    return (width, height) if sideways else (height, width)


@contextmanager
def opened(picture: Path | bytes) -> Iterator[Any]:
    """Open a file, or the bytes of one, and check what its head says.

    Raises
    ------
    DataError
        Also for what the caller's reading of it raises.
    """
    library = pillow("Image")
    file = picture if isinstance(picture, Path) else Path("image")
    try:
        with (
            reading(file, UNREADABLE, PARSER_FAULTS),
            open_regular(picture) if isinstance(picture, Path) else io.BytesIO(picture) as stream,
            _header(library, stream) as image,
        ):
            check_pixels(image.size, MAX_PIXELS)
            yield image
    except DataError as error:
        if isinstance(picture, Path):
            raise
        raise DataError(error.message) from None


def check_pixels(size: tuple[int, ...], most: int) -> None:
    """Refuse more pixels than are read.

    Raises
    ------
    DataError
        Saying how many there are; it names no file.
    """
    if size[0] * size[1] > most:
        raise DataError(
            f"the image has or becomes {size[0]:,} × {size[1]:,} pixels, more than the {most:,} "
            "that are read; make it smaller"
        )


def checked_array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Refuse an array that is no picture.

    Raises
    ------
    DataError
        Saying what it must be.
    """
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        shape = " × ".join(map(str, value.shape))
        raise DataError(
            f"an image as an array must be uint8 of height × width × 3, not {value.dtype} {shape}"
        )
    check_pixels(value.shape[:2], MAX_PIXELS)
    return value


def _header(library: Any, stream: Any) -> Any:
    """Read an image's header; which library did not know it is of no use to a person."""
    if not stream.read(1):
        raise ValueError("it is empty")
    stream.seek(0)
    try:
        return library.open(stream, formats=FORMATS)
    except library.UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from None
    except library.DecompressionBombError:  # Pillow's own bound, above ours: looked at first
        raise ValueError(f"it has more than the {MAX_PIXELS:,} pixels that are read") from None


def _upright(image: Any) -> Any:
    """Turn an image as its EXIF says, and make it one of the mode ``RGB``."""
    return _eight_bits(pillow("ImageOps").exif_transpose(image)).convert("RGB")


def _eight_bits(image: Any) -> Any:
    """Give an image of 16 bits a channel its upper 8; others as they are."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    return pillow("Image").fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
