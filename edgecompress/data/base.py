"""What a description of data is, and what the labels of its splits must be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from edgecompress.errors import DataError
from edgecompress.tables import Wanted
from edgecompress.texts import labels_in
from edgecompress.values import Example, Json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class DataConfig(BaseModel, ABC):
    """Where labelled examples come from; a recipe's ``data``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: str
    """Which reader: the name of a file in `edgecompress.data`."""

    seen_test: Literal["refuse", "accept"] = "refuse"
    """What becomes of a test that mostly stands in train or validation, too: it is refused, or
    ``accept`` scores it all the same."""

    also_called: ClassVar[tuple[str, ...]] = ()
    """What others call the format: who writes that is told its name."""

    licence: ClassVar[str] = ""
    """What all data of this format is licensed under, where one licence is known."""

    @abstractmethod
    def read(self, split: Split) -> tuple[Example, ...]:
        """Read a split.

        Raises
        ------
        DataError
            When a file is missing, malformed or empty, or the split is empty.
        """

    @abstractmethod
    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the files of a split, in order; none where the data is made, not read."""

    @abstractmethod
    def digest(self, split: Split) -> str:
        """SHA-256 over all that decides what `read` gives.

        Raises
        ------
        DataError
            When a file is missing or the split is empty.
        """

    def offers(self, split: Split) -> bool:  # noqa: ARG002 - most formats have all three
        """Say whether there is anything to read a split from."""
        return True

    def named_files(self, split: Split) -> tuple[tuple[str, Path], ...]:
        """Give the files of a split with the names by which records of a run call them."""
        return tuple((file.name, file) for file in self.files(split))

    def for_task(self, wanted: Wanted) -> DataConfig:  # noqa: ARG002
        """Give the same description for a task, which says what its records must hold."""
        return self

    def facts(self) -> dict[str, str]:
        """Say what was found out about the data and a reader of results should know, by name."""
        return {}

    def drawn(self, split: Split) -> Json | None:  # noqa: ARG002
        """Say how a split is drawn from another one's examples; None where it is not."""
        return None

    def locate(self, split: Split, label: str) -> tuple[Path | None, int | None]:  # noqa: ARG002
        """Find the file and line where `label` first stands in `split`, where that is known."""
        return None, None


def check_labels(
    config: DataConfig,
    splits: Mapping[Split, Sequence[Example]] | None = None,
    trained: Sequence[str] = (),
) -> tuple[str, ...]:
    """Check that validation and test hold only labels that train has, and give train's.

    Reads the splits, so that files that are missing or malformed are found as well.

    Parameters
    ----------
    splits : mapping, optional
        Splits that were read already; they are not read again.
    trained : sequence of str
        Classes of a model that has learned them already; train need not have them.

    Raises
    ------
    DataError
        Naming the label and, where it is known, the file and line where it first stands.
    """
    have = splits or {}
    known = _labels(have["train"] if "train" in have else config.read("train"))
    for split in SPLITS[1:]:
        examples = have[split] if split in have else config.read(split)
        for label in sorted(_labels(examples) - known - {"O", *trained}):
            file, line = config.locate(split, label)
            raise DataError(
                f"label {label!r} of the {split} split does not occur in train, so that no model "
                f"can learn it; train has {', '.join(sorted(known)[:20])}",
                file=file,
                line=line,
            )
    return tuple(sorted(known))


def _labels(examples: Sequence[Example]) -> set[str]:
    return {label for example in examples for label in labels_in(example)}
