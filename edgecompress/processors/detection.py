"""Images for a detector: those of a classifier, with where each lies in what the model is fed.

How boxes and scores lie in a graph that transformers does not know is said by a few lines beside
the image's own (`detector`); `edgecompress.tasks._detector_graph` follows them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.processors.image import FILE, FILE_BYTES, ImageProcessor
from edgecompress.processors.image_settings import read_settings
from edgecompress.processors.pictures import Picture, picture_size
from edgecompress.reading import read_bytes, read_json
from edgecompress.values import TensorSpec
from edgecompress.words import meant, shortened

Decoding = Literal["none", "yolov3", "yolov5", "yolox"]
Corners = Literal["cxcywh", "xyxy", "xywh"]
Scores = Literal["probabilities", "sigmoid", "softmax"]

KEYS = ("outputs", "decoding", "anchors", "boxes", "normalised", "objectness", "scores",
        "threshold", "iou")  # fmt: skip


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What a detector gives, and which of its boxes are told.

    Attributes
    ----------
    outputs : tuple of str
        The graph's outputs that are read: boxes and scores, one of both, or a raw map for each
        scale; empty for all.
    decoding : str
        ``none`` where boxes are boxes already; else whose raw maps they are.
    anchors : tuple
        Width and height in pixels of what is fed, a list for each raw map.
    boxes : str
        ``cxcywh`` (centre and size), ``xyxy`` (two corners) or ``xywh`` (a corner and size).
    normalised : bool
        Whether boxes are shares of what is fed, and not pixels.
    objectness : bool
        Whether a number stands before the classes by which their scores are multiplied.
    scores : str
        What scores are: ``probabilities``, or numbers that a ``sigmoid`` or a ``softmax`` (whose
        last class is «nothing») makes probabilities of.
    threshold : float
        The least score of a box that is told to a person; scoring reads all.
    iou : float or None
        Two boxes of a class that overlap by more are one object; None: all are told.
    """

    outputs: tuple[str, ...] = ()
    decoding: Decoding = "none"
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    boxes: Corners = "cxcywh"
    normalised: bool = False
    objectness: bool = False
    scores: Scores = "probabilities"
    threshold: float = 0.25
    iou: float | None = 0.45


OF_TRANSFORMERS = DetectorSettings(threshold=0.5, iou=None, normalised=True)
"""Its models answer each object once."""


def read_detector(given: Any, usual: DetectorSettings = DetectorSettings()) -> DetectorSettings:
    """Read what a file or a recipe says under ``detector``.

    Raises
    ------
    DataError
        At the first key that is wrong; it names no file.
    """
    if given is None:
        return usual
    if not isinstance(given, Mapping):
        raise DataError("detector must be keys and values")
    for key in given:
        if key not in KEYS:
            raise DataError(f"there is no key detector.{shortened(str(key), 60)!r}"
                            f"{meant(str(key), KEYS)}")  # fmt: skip
    outputs = given.get("outputs", ())
    if not isinstance(outputs, list | tuple) or not all(isinstance(one, str) for one in outputs):
        raise DataError("detector.outputs must be a list of names")
    decoding = _one_of(given, "decoding", get_args(Decoding), usual.decoding)
    anchors = _anchors(given.get("anchors", ()))
    if bool(anchors) != (decoding in ("yolov3", "yolov5")):
        raise DataError("detector.anchors belong to the decodings yolov3 and yolov5: a list of "
                        "[width, height] in pixels for each output")  # fmt: skip
    return DetectorSettings(
        tuple(outputs), decoding, anchors,
        _one_of(given, "boxes", get_args(Corners), usual.boxes),
        _switch(given, "normalised", usual.normalised),
        _switch(given, "objectness", usual.objectness or decoding != "none"),
        _one_of(given, "scores", get_args(Scores), usual.scores),
        _share(given, "threshold", usual.threshold) or 0.0,
        _share(given, "iou", usual.iou),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DetectionProcessor(ImageProcessor):
    """Makes arrays of images, and knows the way back to their pixels."""

    kind: ClassVar[str] = "detection"

    detector: DetectorSettings = DetectorSettings()

    @classmethod
    def load(cls, directory: Path | None) -> DetectionProcessor:
        """Read ``preprocessor_config.json`` from `directory`."""
        found = ImageProcessor.load(directory)
        file = (directory or Path()) / FILE
        digest = hashlib.sha256(read_bytes(file, FILE_BYTES)).hexdigest()
        return cls(found.settings, digest, detector=detector_of(file))

    @classmethod
    def check_description(cls, settings: Mapping[str, Any]) -> None:
        """Check what a recipe says of a graph's images, and of its boxes."""
        read_detector(settings.get("detector"))
        said = {key: value for key, value in settings.items() if key != "detector"}
        read_settings({"size": 1, **said}, strict=True)

    @classmethod
    def describe(
        cls, settings: Mapping[str, Any] | None, source: Path, inputs: Sequence[TensorSpec],
        folder: Path,
    ) -> None:  # fmt: skip
        """Write its file for a graph, whose images all become one size."""
        super().describe(settings, source, inputs, folder)
        found = cls.load(folder)
        if not found.stacks:
            raise DataError(
                "the graph's images keep their proportions, so that boxes cannot be found in them; "
                "give size a height and a width (and letterbox: 114, to keep proportions)"
            )

    @property
    def fed(self) -> tuple[int, int]:
        """Height and width of what the model is fed, where that is one size."""
        return self.settings.final(1, 1)

    def geometry(self, picture: Picture) -> dict[str, NDArray[np.float64]]:
        """Say how large a picture is, and where it lies in what the model is fed.

        Returns
        -------
        dict of str to float64
            ``size`` (2,): width and height in pixels; ``inner`` (4,): left, top, width and height
            as shares of what is fed.
        """
        height, width = picture_size(picture)
        inner = self.settings.place(height, width)
        return {"size": np.array((width, height), np.float64), "inner": np.array(inner)}


def detector_of(file: Path) -> DetectorSettings:
    """Read what ``preprocessor_config.json`` says of a detector."""
    found = read_json(file, FILE_BYTES)
    ready = bool(found.get("image_processor_type") or found.get("feature_extractor_type"))
    try:
        return read_detector(
            found.get("detector"), OF_TRANSFORMERS if ready else DetectorSettings()
        )
    except DataError as error:
        raise DataError(error.message, file=file) from None


def _one_of(given: Mapping[str, Any], key: str, known: Sequence[str], usual: Any) -> Any:
    value = given.get(key, usual)
    if value not in known:
        raise DataError(f"detector.{key} must be one of {', '.join(known)}")
    return value


def _switch(given: Mapping[str, Any], key: str, usual: bool) -> bool:
    value = given.get(key, usual)
    if not isinstance(value, bool):
        raise DataError(f"detector.{key} must be true or false")
    return value


def _share(given: Mapping[str, Any], key: str, usual: float | None) -> float | None:
    value = given.get(key, usual)
    if value is None and key == "iou":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"detector.{key} must be a number from 0 to 1")
    return float(value)


def _anchors(value: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    try:
        found = tuple(tuple((float(w), float(h)) for w, h in scale) for scale in value)
    except (TypeError, ValueError):
        found = ((),)
    if not all(scale and all(w > 0 and h > 0 for w, h in scale) for scale in found):
        raise DataError("detector.anchors must be a list of [width, height] for each output")
    return found
