"""Images as calibration samples: read, resized, scaled and normalised as their model wants them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from edgecompress.errors import DataError
from edgecompress.installing import pip_install
from edgecompress.reading import PARSER_FAULTS, open_regular, read_json, reading
from edgecompress.values import Feed, TensorSpec

Array = np.ndarray[Any, Any]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""What is looked for in a file, whatever its name says; Pillow knows some that start programs."""
MAX_PIXELS = 50_000_000
"""Of a file, read from its header: what a camera gives, and 150 MB of colours. A few kilobytes of
PNG can claim a hundred times as many."""
MAX_FED_PIXELS = 16_000_000
"""Of what the model is fed, in three floats a pixel: 4,000 × 4,000."""
# What torchvision's and most transformers' image models were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SIZE = 224  # where the graph leaves height and width open

Side = Annotated[int, Field(ge=1, le=100_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Channels = tuple[Number, Number, Number]


class ImageSize(BaseModel):
    """A size as image processors write it."""

    height: Side = IMAGE_SIZE
    width: Side = IMAGE_SIZE
    shortest_edge: Side | None = None


def _of_edge(value: Any) -> Any:
    """Read a lone number as height and width."""
    return {"height": value, "width": value} if isinstance(value, int) else value or None


GivenSize = Annotated[ImageSize | None, BeforeValidator(_of_edge)]


def _yes_unless_said(value: Any) -> Any:
    return True if value is None else value


Said = Annotated[bool, BeforeValidator(_yes_unless_said)]


class ImageSettings(BaseModel):
    """The fields of ``preprocessor_config.json`` that are followed; others are left alone."""

    do_resize: Said = True
    size: GivenSize = None
    do_center_crop: bool | None = False
    crop_size: GivenSize = None
    do_rescale: Said = True
    rescale_factor: Number = 1 / 255
    do_normalize: Said = True
    image_mean: Channels = IMAGENET_MEAN
    image_std: Channels = IMAGENET_STD


def image_rows(
    files: Sequence[Path], specs: Sequence[TensorSpec], preprocessor: Path | None
) -> Iterator[Feed]:
    """Read images as RGB: resized, scaled, normalised, channels first.

    Fields of ``preprocessor_config.json`` (transformers' image processors) are followed: size,
    crop_size, do_resize, do_center_crop, do_rescale, rescale_factor, do_normalize, image_mean,
    image_std. Without one: the graph's height and width (224 where open), bilinear, 1/255, and the
    mean and deviation of ImageNet.

    Raises
    ------
    DataError
        When the graph does not take one image, Pillow is missing, or a file is no image.
    """
    if len(specs) != 1 or len(specs[0].shape) != 4 or specs[0].shape[1] not in (3, "num_channels"):
        raise DataError(
            "images can be fed to a graph with one input of batch × 3 × height × width only; "
            "give arrays (.npz)",
            file=files[0].parent,
        )
    try:
        library = importlib.import_module("PIL.Image")
    except ImportError:
        raise DataError(
            "images are read with Pillow, which is not installed; "
            f"run: {pip_install('pillow')}, or give arrays (.npz)",
            file=files[0].parent,
        ) from None
    (spec,) = specs
    given = _image_settings(preprocessor)
    height, width = (size if isinstance(size, int) else None for size in spec.shape[2:])
    for file in files:
        values = _values(library, file, given, (height, width))
        if (height or values.shape[0], width or values.shape[1]) != values.shape[:2]:
            raise DataError(
                f"the image becomes {values.shape[0]} × {values.shape[1]}, and the model wants "
                f"{height} × {width}; mend preprocessor_config.json",
                file=file,
            )
        row: Array = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(spec.dtype)
        yield {spec.name: row}


def _values(
    library: Any, file: Path, given: ImageSettings, graph: tuple[int | None, int | None]
) -> Array:
    """Give an image as the model is fed it: float32, (height, width, 3)."""
    with (
        reading(file, "not an image that can be read", PARSER_FAULTS),
        open_regular(file) as stream,
        _opened(library, stream) as opened,
    ):
        _check_pixels(opened.size, MAX_PIXELS, file)
        image = opened.convert("RGB")
    if given.do_resize:
        wanted = _image_size(given.size, image.size, graph)
        _check_pixels(wanted, MAX_FED_PIXELS, file)
        image = image.resize(wanted, library.Resampling.BILINEAR)
    values = np.asarray(image)
    if given.do_center_crop:
        crop = given.crop_size or given.size or ImageSize()
        top, left = (values.shape[0] - crop.height) // 2, (values.shape[1] - crop.width) // 2
        values = values[max(top, 0) :, max(left, 0) :][: crop.height, : crop.width]
    _check_pixels(values.shape[:2], MAX_FED_PIXELS, file)
    values = values.astype(np.float32)
    if given.do_rescale:
        values = values * np.float32(given.rescale_factor)
    if given.do_normalize:
        values = values - np.array(given.image_mean, np.float32)
        values = values / np.array(given.image_std, np.float32)
    return values


def _opened(library: Any, stream: Any) -> Any:
    """Read an image's header; which library did not know it is of no use to a person."""
    try:
        return library.open(stream, formats=FORMATS)
    except library.UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from None
    except library.DecompressionBombError:  # Pillow's own bound, above ours: looked at first
        raise ValueError(f"it has more than the {MAX_PIXELS:,} pixels that are read") from None


def _check_pixels(size: tuple[int, ...], most: int, file: Path) -> None:
    if size[0] * size[1] > most:
        raise DataError(
            f"the image has or becomes {size[0]:,} × {size[1]:,} pixels, more than the {most:,} "
            "that are read; make it smaller",
            file=file,
        )


def _image_settings(folder: Path | None) -> ImageSettings:
    if folder is None:
        return ImageSettings()
    file = folder / "preprocessor_config.json"
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError("must be a JSON object", file=file)
    try:
        return ImageSettings.model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise DataError(f"{key}: {problem['msg']}", file=file) from None


def _image_size(
    size: ImageSize | None, now: tuple[int, int], graph: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Width and height to resize to; a `size` of shortest_edge keeps the proportions."""
    if size is not None and size.shortest_edge:
        scale = size.shortest_edge / min(now)
        return max(round(now[0] * scale), 1), max(round(now[1] * scale), 1)
    if size is not None:
        return size.width, size.height
    return graph[1] or IMAGE_SIZE, graph[0] or IMAGE_SIZE
