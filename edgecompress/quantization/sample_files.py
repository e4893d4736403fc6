"""Read calibration data from files, a sample at a time: arrays, texts, images.

`edgecompress.quantization.samples` decides what to read and checks it against the graph.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.arrayfiles import StoredArray, stored_arrays
from edgecompress.errors import DataError
from edgecompress.quantization.session import DTYPES, Feed
from edgecompress.tasks.preprocessor import Preprocessor
from edgecompress.textfiles import read_lines
from edgecompress.values import TensorSpec

Array = np.ndarray[Any, Any]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TEXT_COLUMN = "text"
CHUNK = 256  # texts that are tokenized at a time
# What torchvision's and most transformers' image models were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SIZE = 224  # where the graph leaves height and width open


class Source:
    """An array in a file, of which only the header was read so far.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    single : bool
        The array is one sample, and its first axis does not count samples.
    """

    def __init__(self, stored: StoredArray) -> None:
        self._stored, self.single = stored, False
        self.shape, self.dtype = stored.shape, stored.dtype

    def rows(self) -> Iterator[Array]:
        """Yield the samples one by one; only one is in memory.

        Raises
        ------
        DataError
            When the file is damaged.
        """
        return self._stored.rows(whole=self.single)


def array_sources(file: Path, specs: Sequence[TensorSpec]) -> Mapping[str, Source]:
    """Read the headers of a ``.npz`` or ``.npy`` file.

    Raises
    ------
    DataError
        When the file is damaged, or is a ``.npy`` and the graph has several inputs.
    """
    if file.suffix == ".npy" and len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(
            f"a .npy file has no names, and the model takes {names}; "
            "write numpy.savez(file, name=array, …)",
            file=file,
        )
    found = stored_arrays(file)
    if file.suffix == ".npy":  # its one array has no name
        return dict(zip([specs[0].name], map(Source, found.values()), strict=False))
    return {name: Source(stored) for name, stored in found.items()}


def _texts(file: Path) -> Iterator[str]:
    """Yield the texts of a file: its lines, or the column ``text`` of a table."""
    if file.suffix == ".txt":
        yield from (line.strip() for line in read_lines(file) if line.strip())
        return
    with file.open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        header = next(rows, [])
        if TEXT_COLUMN not in header:
            raise DataError(
                f"the table has no column {TEXT_COLUMN!r} but {', '.join(header) or 'none'}; "
                "name the one with the texts so",
                file=file,
                line=1,
            )
        column = header.index(TEXT_COLUMN)
        try:
            for row in rows:
                if len(row) > column and row[column].strip():
                    yield row[column].strip()
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read ({error})", file=file, line=rows.line_num) from None


def count_texts(file: Path) -> int:
    """Count the texts that are not empty."""
    return sum(1 for _ in _texts(file))


def text_rows(file: Path, specs: Sequence[TensorSpec], tokenizer: Path | None) -> Iterator[Feed]:
    """Encode texts as the tokenizer's model reads them, each cut to what fits in one row.

    Yields
    ------
    dict of str to ndarray
        Without a batch axis. A graph of fixed length gets padding, with an attention mask of 0.

    Raises
    ------
    DataError
        When the graph takes an input that cannot be made of a text.
    """
    if tokenizer is None:
        raise DataError("texts need a tokenizer; give its folder (--tokenizer DIR)", file=file)
    preprocessor = Preprocessor.load(tokenizer)
    fixed = {spec.shape[1] for spec in specs if len(spec.shape) == 2}
    length = next((size for size in fixed if isinstance(size, int)), None)
    room = min(preprocessor.max_length, length or preprocessor.max_length)
    room -= len(preprocessor.prefix) + len(preprocessor.suffix)
    texts = _texts(file)
    while chunk := list(islice(texts, CHUNK)):
        for pieces in preprocessor.encode_text(chunk):
            ids = preprocessor.with_specials(pieces[:room])
            yield {s.name: _padded(s, ids, preprocessor, length).astype(DTYPES[s.dtype])
                   for s in specs}  # fmt: skip


def _padded(spec: TensorSpec, ids: Array, preprocessor: Preprocessor, length: int | None) -> Array:
    made = {
        "input_ids": lambda: ids,
        "attention_mask": lambda: np.ones_like(ids),
        "token_type_ids": lambda: preprocessor.segment_ids(len(ids)),
        "position_ids": lambda: np.arange(len(ids)),
    }
    if spec.name not in made:
        raise DataError(
            f"input {spec.name} cannot be made of a text; give arrays of all inputs (.npz)"
        )
    values = made[spec.name]()
    filler = preprocessor.pad_id if spec.name == "input_ids" else 0
    return np.pad(values, (0, max(0, (length or 0) - len(ids))), constant_values=filler)


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
            "images are read with Pillow, which is not installed; run: pip install pillow, or "
            "give arrays (.npz)",
            file=files[0].parent,
        ) from None
    (spec,) = specs
    given = _image_settings(preprocessor)
    height, width = (size if isinstance(size, int) else None for size in spec.shape[2:])
    for file in files:
        try:
            with library.open(file) as opened:
                image = opened.convert("RGB")
        except (library.UnidentifiedImageError, OSError):
            raise DataError("not an image that can be read", file=file) from None
        if given.get("do_resize", True):
            wanted = _image_size(given.get("size"), image.size, (height, width))
            image = image.resize(wanted, library.Resampling.BILINEAR)
        values = np.asarray(image, np.float32)
        if given.get("do_center_crop"):
            size = _pair(given.get("crop_size") or given.get("size"))
            top, left = ((values.shape[axis] - size[axis]) // 2 for axis in (0, 1))
            values = values[max(top, 0) :, max(left, 0) :][: size[0], : size[1]]
        if given.get("do_rescale", True):
            values = values * np.float32(given.get("rescale_factor", 1 / 255))
        if given.get("do_normalize", True):
            values = values - np.float32(given.get("image_mean", IMAGENET_MEAN))
            values = values / np.float32(given.get("image_std", IMAGENET_STD))
        if (height or values.shape[0], width or values.shape[1]) != values.shape[:2]:
            raise DataError(
                f"the image becomes {values.shape[0]} × {values.shape[1]}, and the model wants "
                f"{height} × {width}; mend preprocessor_config.json",
                file=file,
            )
        row: Array = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(DTYPES[spec.dtype])
        yield {spec.name: row}


def _image_settings(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    file = folder / "preprocessor_config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", file=file) from None
    return found if isinstance(found, dict) else {}


def _image_size(
    size: Any, now: tuple[int, int], graph: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Width and height to resize to; a `size` of shortest_edge keeps the proportions."""
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    if edge:
        scale = edge / min(now)
        return round(now[0] * scale), round(now[1] * scale)
    height, width = _pair(size) if size else (graph[0] or IMAGE_SIZE, graph[1] or IMAGE_SIZE)
    return width, height


def _pair(size: Any) -> tuple[int, int]:
    """Height and width, from a number or a mapping of height and width."""
    if isinstance(size, dict):
        return int(size.get("height", IMAGE_SIZE)), int(size.get("width", IMAGE_SIZE))
    return int(size or IMAGE_SIZE), int(size or IMAGE_SIZE)
