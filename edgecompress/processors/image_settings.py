"""What ``preprocessor_config.json`` says of images, read as transformers' image processors mean it.

Fields that a file leaves out have the defaults of the class that it names. A description without a
class is a person's own, of a graph that transformers does not know: there nothing is guessed that
changes answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.processors.described import check_keys, type_named
from edgecompress.values import Json

HALVES = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WARPED_FROM = 384  # the side from which on ConvNextImageProcessor no longer crops
YOLOS_PATCH = 16  # YolosImageProcessor cuts both sides down to multiples of it
LEVIT_MARGIN = 256 / 224  # what LevitImageProcessor resizes to, over what its `size` says
MOST = 100_000  # pixels of a side
MASK = "pixel_mask"
"""The input that says where an image is, and where it was padded."""
LARGEST = 1e30  # of a number; those of real files have a few digits, and 32 bits hold it

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""`PIL.Image.Resampling`, whose numbers such files hold."""

_PLAIN: Json = {
    "do_resize": True, "resample": 2, "do_center_crop": False, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": HALVES, "image_std": HALVES,
}  # fmt: skip
_CROPPED: Json = {**_PLAIN, "do_center_crop": True, "crop_size": 224}
_CLIP: Json = {**_CROPPED, "size": {"shortest_edge": 224}, "resample": 3,
               "image_mean": CLIP_MEAN, "image_std": CLIP_STD}  # fmt: skip
_MOBILE: Json = {**_CROPPED, "size": {"shortest_edge": 256}}
_IMAGENET: Json = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
_DETR: Json = {**_PLAIN, **_IMAGENET, "size": {"shortest_edge": 800, "longest_edge": 1333}}
TYPES: Mapping[str, Json] = {
    "Beit": {**_CROPPED, "size": 256, "resample": 3},
    "Bit": _CLIP,
    "CLIP": _CLIP,
    "ConditionalDetr": _DETR,
    "ConvNext": {**_PLAIN, "size": {"shortest_edge": 384}, "crop_pct": 224 / 256},
    "DeiT": {**_CROPPED, "size": 256, "resample": 3},
    "DeformableDetr": _DETR,
    "Detr": _DETR,
    "EfficientNet": {**_PLAIN, "size": 346, "crop_size": 289, "resample": 0,
                     "rescale_offset": False, "include_top": True},
    "Levit": {**_CROPPED, **_IMAGENET, "size": {"shortest_edge": 224}, "resample": 3},
    "MobileNetV1": _MOBILE,
    "MobileNetV2": _MOBILE,
    "MobileViT": {**_CROPPED, "size": {"shortest_edge": 224}, "crop_size": 256,
                  "do_normalize": False, "do_flip_channel_order": True},
    "Pvt": {**_PLAIN, **_IMAGENET, "size": 224},
    "RTDetr": {**_PLAIN, **_IMAGENET, "size": 640, "do_normalize": False},
    "Siglip": {**_PLAIN, "size": 224, "resample": 3},
    "ViT": {**_PLAIN, "size": 224},
    "Yolos": _DETR,
}  # fmt: skip
"""What the image processors of transformers 4 have where a file does not say it, by the beginning
of their classes' names. Those of its fifth edition have other defaults in part, and write all."""
_SHORT = {"Bit", "CLIP", "ConvNext", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT"}
# For these a lone number as `size` is the shorter side.

_SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order",
             "rescale_offset", "include_top", "do_pad")  # fmt: skip
_OWN = ("size", "crop_size", "resample", "crop_pct", "rescale_factor", "image_mean", "image_std",
        "data_format", "model_input_names", "image_processor_type", "letterbox", "pad_size",
        *_SWITCHES)  # fmt: skip
"""What a person may say of a graph's images."""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How images become arrays.

    Attributes
    ----------
    size : tuple of int, int or None
        Height and width, or the shorter side alone, which keeps the proportions.
    crop : tuple of int or None
        Height and width of the middle that is kept; what lies outside the image is 0.
    longest : int or None
        What the longer side is at most, where `size` is the shorter one.
    multiple : int
        Of which both sides are then multiples.
    letterbox : int or None
        The grey around an image that keeps its proportions in the middle of `size`.
    padded : tuple of int or None
        Height and width of what is fed; the image stands in its upper left corner, all else is 0.
    resample : int
        `PIL.Image.Resampling`.
    table : float32 (256, 3)
        What the model is fed for each value of each channel, in its own order.
    flipped : bool
        Blue, green, red instead of red, green, blue.
    channels_last : bool
    inputs : tuple of str
        The graph's input.
    """

    size: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    table: NDArray[np.float32]
    flipped: bool = False
    channels_last: bool = False
    inputs: tuple[str, ...] = ("pixel_values",)
    longest: int | None = None
    multiple: int = 1
    letterbox: int | None = None
    padded: tuple[int, int] | None = None

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Give height and width after resizing."""
        if self.size is None:
            return height, width
        if not isinstance(self.size, int):
            return self.size if self.letterbox is None else _inside(self.size, height, width)
        if self.longest is not None:
            found = _bounded(self.size, self.longest, height, width)
            sides = [max(self.multiple, side - side % self.multiple) for side in found]
            return sides[0], sides[1]
        longer = int(self.size * max(height, width) / min(height, width))
        if longer > MOST:
            raise DataError(f"an image of {width} × {height} would become {longer} pixels long")
        return (self.size, longer) if height <= width else (longer, self.size)

    def final(self, height: int, width: int) -> tuple[int, int]:
        """Give height and width of what the model is fed."""
        if self.letterbox is not None and isinstance(self.size, tuple):
            return self.size
        return self.padded or self.crop or self.resized(height, width)

    def place(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Say where a whole image lies in what the model is fed, cut or padded as that may be.

        Returns
        -------
        left, top, width, height : float
            As shares of what is fed.
        """
        fed, inner = self.final(height, width), self.resized(height, width)
        left = top = 0
        if self.letterbox is not None:
            top, left = (fed[0] - inner[0]) // 2, (fed[1] - inner[1]) // 2
        elif self.crop is not None:
            top, left = -((inner[0] - fed[0]) // 2), -((inner[1] - fed[1]) // 2)
        return left / fed[1], top / fed[0], inner[1] / fed[1], inner[0] / fed[0]


def _inside(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Give the largest height and width of the same proportions that fit into `size`."""
    scale = min(size[0] / height, size[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _bounded(shorter: int, longest: int, height: int, width: int) -> tuple[int, int]:
    """Give height and width by the shorter side, unless the longer one becomes too long then.

    Source: `transformers.image_transforms.get_size_with_aspect_ratio`.
    """
    low, high = min(height, width), max(height, width)
    raw = float(shorter)
    if high / low * shorter > longest:
        raw = longest * low / high
        shorter = max(1, round(raw))
    if low == shorter:
        return height, width
    other = max(1, int(raw * high / low))
    return (other, shorter) if width < height else (shorter, other)


def read_settings(
    given: Any, defaults: Json | None = None, *, strict: bool = False
) -> ImageSettings:
    """Read what a file or a recipe says.

    Parameters
    ----------
    given : object
        JSON.
    defaults : dict, optional
        What counts where neither `given` nor a class that it names says something; without them a
        description without a class must say its size, mean and deviation itself.
    strict : bool
        Whether a key that nobody reads is an error: in a recipe, and not in a file, where others
        stand that are of no use here.

    Raises
    ------
    DataError
        At the first key that is wrong or missing; it names no file.
    """
    if not isinstance(given, Mapping):
        raise DataError("must be a JSON object")
    named = ("image_processor_type", "feature_extractor_type")
    kind = type_named(given, named, "ImageProcessor", TYPES)
    usual = dict(TYPES[kind] if kind else {**_PLAIN, **(defaults or {})})
    said = {key: value for key, value in given.items() if value is not None}
    if strict:
        check_keys(said, _OWN)
    for key in _SWITCHES:
        if not isinstance(said.get(key, False), bool):
            raise DataError(f"{key} must be true or false")
    if kind is None and defaults is None:
        _check_own(said)
        usual |= {"do_center_crop": "crop_size" in said}
    found = {**usual, **said}
    sides = _size(found, "size", short=kind in _SHORT) if found["do_resize"] else None
    crop = _size(found, "crop_size", short=False) if found["do_center_crop"] else None
    if isinstance(crop, int):
        raise DataError("crop_size must be a number, or have height and width")
    if kind == "ConvNext" and isinstance(sides, int):
        crop = (sides, sides)
        if sides < WARPED_FROM:
            share = _number(found, "crop_pct")
            if not 0 < share <= 1:
                raise DataError("crop_pct must lie between 0 and 1")
            sides = _side(int(sides / share), "size over crop_pct")
        else:
            sides = crop
    if kind == "Levit" and isinstance(sides, int):
        sides = int(LEVIT_MARGIN * sides)
    letterbox, padded = _letterbox(found, sides, crop), _padded(found)
    layout = found.get("data_format", "channels_first")
    if layout not in ("channels_first", "channels_last"):
        raise DataError("data_format must be channels_first or channels_last")
    names = found.get("model_input_names", ["pixel_values"])
    if isinstance(names, list | tuple):
        names = [name for name in names if name != MASK]
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise DataError("model_input_names must be a list of one name")
    return ImageSettings(
        sides,
        crop,
        _resample(found["resample"]),
        _table(found),
        flipped=found.get("do_flip_channel_order", False),
        channels_last=layout == "channels_last",
        inputs=(names[0],) if padded is None else (names[0], MASK),
        longest=_longest(found) if isinstance(sides, int) else None,
        multiple=YOLOS_PATCH if kind == "Yolos" else 1,
        letterbox=letterbox,
        padded=padded,
    )


def _letterbox(found: Mapping[str, Any], sides: Any, crop: Any) -> int | None:
    grey = found.get("letterbox")
    if grey is None:
        return None
    if isinstance(grey, bool) or not isinstance(grey, int) or not 0 <= grey <= 255:
        raise DataError("letterbox must be a grey from 0 to 255, such as 114")
    if not isinstance(sides, tuple) or crop is not None:
        raise DataError("letterbox needs a size of height and width, and no crop_size")
    return grey


def _padded(found: Mapping[str, Any]) -> tuple[int, int] | None:
    if found.get("pad_size") is None or not found.get("do_pad", True):
        return None
    size = _size(found, "pad_size", short=False)
    if isinstance(size, int):
        raise DataError("pad_size must have height and width")
    return size


def _longest(found: Mapping[str, Any]) -> int | None:
    size = found.get("size")
    edge = size.get("longest_edge") if isinstance(size, Mapping) else None
    return None if edge is None else _side(edge, "size.longest_edge")


def _check_own(said: Mapping[str, Any]) -> None:
    """Refuse a description without a class that leaves to chance what changes answers."""
    resized = said.get("do_resize", True)
    needed = ["size"] if resized else []
    needed += ["image_mean", "image_std"] if said.get("do_normalize", True) else []
    missing = next((key for key in needed if key not in said), None)
    if missing is not None:
        off = {"size": "do_resize: false"}.get(missing, "do_normalize: false")
        raise DataError(
            f"{missing} is missing; say what the model was trained with ({off} for none): with "
            "others than its own a model answers, and worse (an EfficientNet-Lite0 loses 10 points "
            "of accuracy under ImageNet's usual mean and deviation)"
        )


def _size(found: Mapping[str, Any], key: str, *, short: bool) -> tuple[int, int] | int:
    value = found.get(key)
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge")
        if edge is not None:
            return _side(edge, f"{key}.shortest_edge")
        height, width = (_side(value.get(side), f"{key}.{side}") for side in ("height", "width"))
        return height, width
    if isinstance(value, list | tuple) and len(value) == 2:
        return _side(value[0], key), _side(value[1], key)
    side = _side(value, key)
    return side if short else (side, side)


def _side(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise DataError(f"{key} must be a whole number of pixels from 1 to {MOST}")
    return value


def _resample(value: Any) -> int:
    found: Any = RESAMPLING.get(value) if isinstance(value, str) else value
    if isinstance(found, bool) or found not in RESAMPLING.values():
        raise DataError(f"resample must be one of {', '.join(RESAMPLING)}, or its number in Pillow")
    return int(found)


def _number(found: Mapping[str, Any], key: str) -> float:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise DataError(f"{key} must be a number")
    return float(value)


def _channels(found: Mapping[str, Any], key: str) -> Sequence[float]:
    value = found.get(key)
    each = value if isinstance(value, list | tuple) else [value]
    if len(each) not in (1, 3):
        raise DataError(f"{key} must be three numbers, or one for all channels")
    numbers = [_number({key: one}, key) for one in each]
    return numbers * 3 if len(numbers) == 1 else numbers


def _table(found: Mapping[str, Any]) -> NDArray[np.float32]:
    """Work out the arithmetic once for each value that a channel can have: float32 (256, 3)."""
    levels = np.repeat(np.arange(256, dtype=np.float64)[:, None], 3, axis=1)
    if found["do_rescale"]:
        levels *= _number(found, "rescale_factor")
    values: NDArray[Any] = levels.astype(np.float32)
    if found["do_rescale"]:
        values = values - np.float32(found.get("rescale_offset", False))
    if found["do_normalize"]:
        mean = np.array(_channels(found, "image_mean"), np.float32)
        deviation = np.array(_channels(found, "image_std"), np.float32)
        if not deviation.all():
            raise DataError("image_std must not be 0")
        with np.errstate(all="ignore"):  # looked at below
            values = (values - mean) / deviation
    if found.get("include_top", False):
        with np.errstate(all="ignore"):
            values = values / np.array(_channels(found, "image_std"), np.float32)
    if not np.isfinite(values).all():
        raise DataError("the numbers are so large that no image can be fed")
    return values.astype(np.float32, copy=False)
