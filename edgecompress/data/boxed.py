"""What formats of images with boxes have in common: how boxes are checked, and their digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from edgecompress.boxes import Objects, inside
from edgecompress.data.base import Split
from edgecompress.data.files import FileData
from edgecompress.errors import DataError
from edgecompress.examples import inputs_json
from edgecompress.values import json_digest


class BoxedData(FileData):
    """Images with boxes around their objects."""

    faulty: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of a box that has no area or reaches out of its image: it is refused with its
    place, or left out."""

    def checked(
        self, found: Iterable[tuple[Any, str, Sequence[float], bool]], width: int, height: int,
        file: Path,
    ) -> Objects:  # fmt: skip
        """Make objects of what a file holds, boxes cut off at the edges of the image.

        Parameters
        ----------
        found : iterable of (place, label, corners, ignored)
            The place is the number of a line, or a word for where an object stands.
        width, height : int
        file : Path

        Raises
        ------
        DataError
            At a box that is none, unless `faulty` leaves such out.
        """
        kept = []
        for place, label, corners, ignored in found:
            try:
                kept.append((label, inside(corners, width, height), ignored))
            except DataError as error:
                if self.faulty == "leave_out":
                    continue
                line = place if isinstance(place, int) else None
                where = "" if line else f"{place}: "
                message = f"{where}{error.message}; mend it, or say data.faulty: leave_out"
                raise DataError(message, file=file, line=line) from None
        labels, boxes, ignored_ones = zip(*kept, strict=True) if kept else ((), (), ())
        return Objects(tuple(labels), tuple(boxes), tuple(ignored_ones))

    def named_files(self, split: Split) -> tuple[tuple[str, Path], ...]:  # noqa: ARG002
        """Name none: there are thousands, and the digest of the split stands for all of them."""
        return ()

    def digest(self, split: Split) -> str:
        """SHA-256 over the images, their boxes and the options."""
        options = self.model_dump(
            mode="json", exclude={"root", "seen_test", "train", "validation", "test"}
        )
        images = [
            [one.source, one.id, inputs_json(one), repr(one.target)] for one in self.read(split)
        ]
        return json_digest([options, images])

    def label_line(self, file: Path, label: str) -> int | None:  # noqa: ARG002
        """Find nothing: objects stand in many files."""
        return None
