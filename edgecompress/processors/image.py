"""Images: resized, cropped, scaled and normalised as a model was trained with them.

What ``preprocessor_config.json`` says is followed as transformers' own image processors follow it
(those that read with Pillow), with numpy and Pillow alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.processors.base import Array, Processor
from edgecompress.processors.image_settings import MASK, ImageSettings, read_settings
from edgecompress.processors.pictures import (
    MAX_FED_PIXELS,
    Picture,
    check_pixels,
    picture_size,
    pillow,
    red_green_blue,
)
from edgecompress.reading import read_bytes, read_json
from edgecompress.values import TensorSpec

FILE = "preprocessor_config.json"
FILE_BYTES = 4 * 2**20
KEPT_BYTES = 256 * 2**20
"""Of images that are read and resized already, in bytes of colours: 1,780 of 224 × 224. Further
ones are read again when they are fed again."""


@dataclass(frozen=True, eq=False)
class ImageProcessor(Processor):
    """Makes arrays of images; `ImageProcessor.load` reads one from its folder."""

    kind: ClassVar[str] = "image"
    files: ClassVar[tuple[str, ...]] = (FILE,)
    missing: ClassVar[str] = (
        "which says how large images must be and with which mean and deviation the model was "
        "trained; under others it answers, and worse. Put it there "
        "(AutoImageProcessor.from_pretrained(…).save_pretrained(directory))"
    )
    extra: ClassVar[str] = "image"

    settings: ImageSettings
    digest: str
    _kept: dict[tuple[Path, int, int], NDArray[np.uint8]] = field(default_factory=dict, repr=False)
    _room: list[int] = field(default_factory=lambda: [KEPT_BYTES], repr=False)

    @property
    def input_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Its one input."""
        return self.settings.inputs

    @property
    def stacks(self) -> bool:
        """Whether all images become one size."""
        settings = self.settings
        fixed = settings.padded is not None or settings.crop is not None
        return fixed or isinstance(settings.size, tuple)

    @classmethod
    def load(cls, directory: Path | None) -> ImageProcessor:
        """Read ``preprocessor_config.json`` from `directory`.

        Raises
        ------
        DataError
            When it is missing, or says what is not known here.
        MissingExtraError
            Without Pillow.
        """
        if directory is None:
            raise DataError(f"the model has no {FILE}, so that images cannot be fed to it")
        pillow("Image")
        file = directory / FILE
        settings = _read(file)
        content = read_bytes(file, FILE_BYTES)
        return cls(settings, hashlib.sha256(content).hexdigest())

    @classmethod
    def check_files(cls, source: Path) -> None:
        """See that its file is there, and can be followed."""
        super().check_files(source)
        _read(source / FILE)

    @classmethod
    def check_description(cls, settings: Mapping[str, Any]) -> None:
        """Check what a recipe says of a graph's images."""
        read_settings({"size": 1, **settings}, strict=True)  # the graph may say its size itself

    @classmethod
    def describe(
        cls,
        settings: Mapping[str, Any] | None,
        source: Path,
        inputs: Sequence[TensorSpec],
        folder: Path,
    ) -> None:
        """Write its file for a graph: from what a recipe says, or what lies beside the graph.

        The graph itself says how its input is called and laid out, and how large images must be
        where that is fixed and nobody says it.
        """
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            named = ", ".join(one.name for one in inputs)
            raise DataError(
                f"the graph takes {named}; images are fed to one input of four axes (batch, "
                "channels, height, width, or the channels last)"
            )
        if settings is None:
            if not (source / FILE).is_file():
                raise DataError(
                    f"nobody says how images are fed to this graph; describe it in the recipe "
                    f"(preprocessor: {{size: …, image_mean: …, image_std: …}}), or put its {FILE} "
                    "beside it; under another mean and deviation than its own it answers, and "
                    "worse",
                    file=source,
                )
            _read(source / FILE)
            settings = read_json(source / FILE, FILE_BYTES)
        (spec,) = inputs
        last = spec.shape[3] == 3 and spec.shape[1] != 3
        found = {"data_format": "channels_last" if last else "channels_first", **settings}
        height, width = spec.shape[1:3] if last else spec.shape[2:]
        if isinstance(height, int) and isinstance(width, int) and found.get("do_resize", True):
            found.setdefault("size", {"height": height, "width": width})
        found["model_input_names"] = [spec.name]
        made = read_settings(found)
        fed = made.crop or (made.size if isinstance(made.size, tuple) else (height, width))
        if any(isinstance(b, int) and a != b for a, b in zip(fed, (height, width), strict=True)):
            raise DataError(
                f"images become {fed[0]} × {fed[1]}, and the graph takes {height} × {width}; mend "
                "size or crop_size of its preprocessor"
            )
        folder.mkdir(parents=True)
        text = json.dumps(found, indent=2, sort_keys=True) + "\n"
        (folder / FILE).write_text(text, encoding="utf-8")

    def gives(self, name: str, dtype: type[np.generic]) -> bool:
        """Say whether it has such an input: its one, of any kind of number."""
        return name in self.input_names and issubclass(dtype, np.number)

    def axes(self, feed: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Name the batch's axis: the only one along which images may differ."""
        return {name: {0: "batch"} for name in feed}

    def colours(self, picture: Picture) -> NDArray[np.uint8]:
        """Give a picture resized and cropped, uint8 (height, width, 3), red first.

        Raises
        ------
        DataError
            When it cannot be read, or becomes too large.
        """
        key = _state(picture) if isinstance(picture, Path) else None
        if key in self._kept:
            return self._kept[key]
        image = red_green_blue(picture)
        wanted = self.settings.resized(image.height, image.width)
        check_pixels(wanted, MAX_FED_PIXELS)
        if self.settings.size is not None:
            image = image.resize((wanted[1], wanted[0]), self.settings.resample)
        values = np.asarray(image)
        if self.settings.crop is not None:
            check_pixels(self.settings.crop, MAX_FED_PIXELS)
            values = middle(values, *self.settings.crop)
        if self.settings.letterbox is not None:
            values = boxed(values, self.settings.final(*values.shape[:2]), self.settings.letterbox)
        if key is not None and values.nbytes <= self._room[0]:
            self._room[0] -= values.nbytes
            self._kept[key] = values
        return values

    def values(self, picture: Picture) -> NDArray[np.float32]:
        """Give a picture as the model is fed it, float32 (3, height, width) or channels last."""
        settings, found = self.settings, self.colours(picture)
        made = np.empty((*found.shape[:2], 3), np.float32)
        for place in range(3):
            channel = 2 - place if settings.flipped else place
            made[..., place] = settings.table[:, channel][found[..., channel]]
        if settings.padded is not None:
            made = corner(made, settings.padded)
        return made if settings.channels_last else np.ascontiguousarray(made.transpose(2, 0, 1))

    def mask(self, picture: Picture) -> NDArray[np.int64]:
        """Say where a picture is in what the model is fed: int64 (height, width), 1 and 0."""
        found = self.settings.resized(*picture_size(picture))
        return corner(np.ones(found, np.int64), self.settings.padded or found)

    def feed(self, picture: Picture) -> Mapping[str, Array]:
        """Give a row's inputs, which are made whenever they are asked for.

        So the memory does not grow with the number of images.
        """
        return ImageFeed(self, picture)

    def cost(self, picture: Picture) -> int:
        """Give what a picture costs to run: patches of 16 × 16, as a ViT counts."""
        height, width = self.settings.final(*((1, 1) if self.stacks else picture_size(picture)))
        return max(1, height * width // 256)

    def batch(self, feeds: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Array]:
        """Stack images of one size.

        Raises
        ------
        DataError
            When they differ in size, or the model wants another input.
        """
        made = {}
        for name in names:
            if name not in self.input_names:
                known = ", ".join(self.input_names)
                raise DataError(f"the model wants an input {name!r}; images give {known}")
            arrays = [feed[name] for feed in feeds]
            other = next((one for one in arrays if one.shape != arrays[0].shape), None)
            if other is not None:
                sizes = " and ".join(" × ".join(map(str, one.shape)) for one in (arrays[0], other))
                raise DataError(
                    f"images of {sizes} cannot stand in one batch; set crop_size in {FILE}"
                )
            made[name] = np.stack(arrays)
        return made


class ImageFeed(Mapping[str, Array]):
    """The input of one image, read from it whenever it is asked for."""

    def __init__(self, processor: ImageProcessor, picture: Picture) -> None:
        self._processor, self._picture = processor, picture

    def __getitem__(self, name: str) -> Array:
        if name not in self._processor.input_names:
            raise KeyError(name)
        if name == MASK:
            return self._processor.mask(self._picture)
        return self._processor.values(self._picture)

    def __iter__(self) -> Iterator[str]:
        return iter(self._processor.input_names)

    def __len__(self) -> int:
        return len(self._processor.input_names)


def middle(values: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut out the middle, (height, width, 3); what lies outside is 0.

    Source: `transformers.image_transforms.center_crop`.
    """
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    inside = values[max(top, 0) : top + height, max(left, 0) : left + width]
    if inside.shape[:2] == (height, width):
        return inside
    made = np.zeros((height, width, 3), np.uint8)
    made[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return made


def boxed(values: NDArray[np.uint8], size: tuple[int, int], grey: int) -> NDArray[np.uint8]:
    """Put an image into the middle of a grey one, (height, width, 3)."""
    made = np.full((*size, 3), grey, np.uint8)
    top, left = (size[0] - values.shape[0]) // 2, (size[1] - values.shape[1]) // 2
    made[top : top + values.shape[0], left : left + values.shape[1]] = values
    return made


def corner(values: Array, size: tuple[int, int]) -> Array:
    """Put an array into the upper left corner of zeros, (height, width, …).

    Raises
    ------
    DataError
        When it is larger.
    """
    if values.shape[0] > size[0] or values.shape[1] > size[1]:
        raise DataError(
            f"an image becomes {values.shape[0]} × {values.shape[1]} pixels and pad_size is "
            f"{size[0]} × {size[1]}; make pad_size as large as size.longest_edge both ways"
        )
    made = np.zeros((*size, *values.shape[2:]), values.dtype)
    made[: values.shape[0], : values.shape[1]] = values
    return made


def _state(file: Path) -> tuple[Path, int, int] | None:
    """Give what changes when a file does; None where there is none."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None  # whoever reads it says so
    return file, status.st_mtime_ns, status.st_size


def _read(file: Path) -> ImageSettings:
    if not file.is_file():
        raise DataError("the file is missing, which says how images are fed", file=file)
    try:
        return read_settings(read_json(file, FILE_BYTES))
    except DataError as error:
        raise error if error.file else DataError(error.message, file=file) from None
