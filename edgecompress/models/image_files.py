"""Images as calibration samples: read, resized, scaled and normalised as their model wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.errors import DataError, MissingExtraError
from edgecompress.processors.image import FILE, ImageProcessor
from edgecompress.processors.image_settings import IMAGENET_MEAN, IMAGENET_STD, read_settings
from edgecompress.processors.pictures import SUFFIXES, pillow
from edgecompress.reading import read_json, reading
from edgecompress.values import Feed, Json, TensorSpec

Array = np.ndarray[Any, Any]

IMAGES = SUFFIXES
IMAGE_SIZE = 224  # where the graph leaves height and width open


def image_rows(
    files: Sequence[Path], specs: Sequence[TensorSpec], preprocessor: Path | None
) -> Iterator[Feed]:
    """Read images as a model is fed them.

    ``preprocessor_config.json`` is followed as `processors.image_settings` says. Without one, and
    for what one without a class leaves out: the graph's height and width (224 where open),
    bilinear, 1/255, and the mean and deviation of ImageNet, with which torchvision's and most
    transformers' models were trained.

    Raises
    ------
    DataError
        When the graph does not take one image, Pillow is missing, or a file is no image.
    """
    processor, channels_last = _processor(files[0].parent, specs, preprocessor)
    (spec,) = specs
    wanted = spec.shape[1:3] if channels_last else spec.shape[2:]
    for file in files:
        with reading(file):
            values = processor.values(file)
        given = values.shape[:2] if channels_last else values.shape[1:]
        pairs = zip(wanted, given, strict=True)
        if any(isinstance(size, int) and size != there for size, there in pairs):
            raise DataError(
                f"the image becomes {given[0]} × {given[1]}, and the model wants "
                f"{wanted[0]} × {wanted[1]}; mend {FILE}",
                file=file,
            )
        row: Array = values.astype(spec.dtype)
        yield {spec.name: row}


def _processor(
    place: Path, specs: Sequence[TensorSpec], preprocessor: Path | None
) -> tuple[ImageProcessor, bool]:
    """Make the processor of a graph, and say whether its channels stand last."""
    shape = specs[0].shape if len(specs) == 1 else ()
    last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if len(shape) != 4 or not (last or shape[1] in (3, "num_channels")):
        raise DataError(
            "images can be fed to a graph with one input of batch × 3 × height × width only, or "
            "with the channels last; give arrays (.npz)",
            file=place,
        )
    try:
        pillow("Image")
    except MissingExtraError as error:
        raise DataError(f"{error}, or give arrays (.npz)", file=place) from None
    sides = shape[1:3] if last else shape[2:]
    height, width = (side if isinstance(side, int) else IMAGE_SIZE for side in sides)
    usual: Json = {
        "size": {"height": height, "width": width},
        "crop_size": {"height": height, "width": width},
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
        "data_format": "channels_last" if last else "channels_first",
    }
    if preprocessor is None:
        return ImageProcessor(read_settings({}, usual), ""), last
    file = preprocessor / FILE
    given = read_json(file)
    with reading(file):
        settings = read_settings(given, usual)
        if settings.channels_last != last:
            raise DataError("data_format is not the graph's layout; mend it")
        return ImageProcessor(settings, ""), last
