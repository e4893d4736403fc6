"""Handwritten digits that scikit-learn carries: 1,797 images of 8 × 8 pixels.

Nothing is fetched: the recipe `quickstart-images` learns from this. They are part of "Optical
Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning
Repository), CC BY 4.0.

They stand there writer after writer. The splits are cut from one end to the other, so that those
who wrote the test's digits wrote hardly any of those to learn from.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgecompress.data.base import DataConfig, Split
from edgecompress.errors import DataError, MissingExtraError
from edgecompress.values import Example

SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0),
}  # fmt: skip
SIDE = 8
BLACK = 16  # how much ink a pixel has at most


class DigitsData(DataConfig):
    """Images of handwritten digits, labelled ``0`` to ``9``."""

    licence: ClassVar[str] = "CC-BY-4.0"

    format: Literal["digits"] = "digits"

    def read(self, split: Split) -> tuple[Example, ...]:
        """Give the images of a split in their order, uint8 (8, 8, 3), black on white.

        Raises
        ------
        MissingExtraError
            When scikit-learn is not installed.
        DataError
            When it has no such file.
        """
        images, digits = _table()
        first, last = (round(share * len(images)) for share in SHARES[split])
        return tuple(
            Example({"image": images[number]}, str(digits[number]), "digits", str(number))
            for number in range(first, last)
        )

    def files(self, split: Split) -> tuple[Path, ...]:  # noqa: ARG002 - scikit-learn has them
        """Give no file: the images come with scikit-learn."""
        return ()

    def digest(self, split: Split) -> str:
        """SHA-256 over the examples, so that another scikit-learn with other images is seen."""
        found = hashlib.sha256()
        for example in self.read(split):
            found.update(f"{example.target} ".encode() + example.inputs["image"].tobytes())
        return found.hexdigest()


@functools.lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give the images, uint8 (count, 8, 8, 3), and their digits."""
    # Importing scikit-learn takes seconds, and all that is wanted is this table.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise MissingExtraError("scikit-learn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    except (OSError, ValueError):
        raise DataError(
            "this scikit-learn carries no digits that can be read; install another version",
            file=file,
        ) from None
    grey = np.round(255 * (1 - table[:, :-1] / BLACK)).astype(np.uint8).reshape(-1, SIDE, SIDE)
    return np.repeat(grey[..., None], 3, axis=3), table[:, -1]
