"""What a processor is: the part of a model that makes arrays of what a person gives it.

It runs on a device: numpy, tokenizers and Pillow only. Its files travel with the model, in the
folder ``preprocessor/`` of a candidate and of a bundle; equal digests make equal arrays.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.values import TensorSpec

Array = np.ndarray[Any, Any]


class Processor(ABC):
    """Makes rows of arrays, and batches of rows; a task says what goes in."""

    kind: ClassVar[str]
    """As tasks name it."""
    input_names: tuple[str, ...]
    """What a model of this kind may take; the graph says what it does take."""
    digest: str
    """SHA-256 over its files."""

    files: ClassVar[tuple[str, ...]] = ()
    """Their names in a checkpoint of Hugging Face's form."""
    missing: ClassVar[str] = "which the model's inputs need"
    """What is said of a file that is not there, behind its name."""
    needs_files: ClassVar[bool] = True
    """Whether it is nothing without files of its own; else a model may lack the folder."""

    settled: ClassVar[bool] = False
    """Whether a recipe may describe it for any model, and not only for a graph of others."""

    extra: ClassVar[str] = ""
    """The extra of edgecompress that a device needs for it, beside the base install."""

    @classmethod
    def is_named_in(cls, source: Path) -> bool:  # noqa: ARG003
        """Whether files of a checkpoint say that it is fed by this kind and no other."""
        return False

    @property
    def stacks(self) -> bool:
        """Whether `batch` takes any rows together."""
        return True

    @classmethod
    @abstractmethod
    def load(cls, directory: Path | None) -> Processor:
        """Read it from its folder; None is given to what needs no files.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """

    @classmethod
    def check_files(cls, source: Path) -> None:
        """Look at its files in the folder of a checkpoint.

        Raises
        ------
        DataError
            When one is missing, or says what is not known here.
        """
        for name in cls.files:
            if not (source / name).is_file():
                raise DataError(f"{name} is missing, {cls.missing}", file=source)

    @classmethod
    def copy_files(cls, source: Path, folder: Path) -> None:
        """Take its files out of the folder of a checkpoint, where it has some.

        Raises
        ------
        DataError
            As `check_files`.
        """
        cls.check_files(source)
        folder.mkdir(parents=True)
        for name in cls.files:
            shutil.copyfile(source / name, folder / name)

    @classmethod
    def check_description(cls, settings: Mapping[str, Any]) -> None:  # noqa: ARG003
        """Check what a recipe says of how a graph's inputs are made (its ``preprocessor``).

        Raises
        ------
        DataError
            Naming the key that is wrong; here always, as there is nothing to describe.
        """
        raise DataError(f"the inputs of {cls.kind} are not described in a recipe; leave it out")

    @classmethod
    def settle(cls, settings: Mapping[str, Any], folder: Path) -> None:  # noqa: ARG003
        """Write what a recipe says into a folder that has the files, where it is `settled`.

        Raises
        ------
        DataError
            As `check_description`.
        """
        cls.check_description(settings)

    @classmethod
    def describe(
        cls,
        settings: Mapping[str, Any] | None,
        source: Path,
        inputs: Sequence[TensorSpec],  # noqa: ARG003
        folder: Path,
    ) -> None:
        """Write its files for a graph that another program made.

        Parameters
        ----------
        settings : mapping or None
            What a recipe says, by the keys of `check_description`; None where it says nothing.
        source : Path
            The folder in which the graph lies, perhaps with files of the processor.
        inputs : sequence of TensorSpec
            Of the graph.
        folder : Path
            New.

        Raises
        ------
        DataError
            When nobody says it, or what is said does not fit the graph.
        """
        if settings is not None:
            cls.check_description(settings)
        cls.copy_files(source, folder)

    def inputs(self, feed: Mapping[str, Array]) -> tuple[str, ...]:  # noqa: ARG002
        """Name the inputs that a batch of rows such as this one can have."""
        return self.input_names

    def gives(self, name: str, dtype: type[np.generic]) -> bool:  # noqa: ARG002
        """Say whether rows of this kind have an input of this name and type, as far as is known."""
        return True

    def axes(self, feed: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Name the axes of a batch that may be of any size, by input; here the first alone.

        Parameters
        ----------
        feed : mapping of str to ndarray
            As `batch` gives it.
        """
        return {name: {0: "batch"} for name in feed}

    @abstractmethod
    def batch(self, feeds: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Array]:
        """Put rows together, each padded to the longest.

        Parameters
        ----------
        feeds : sequence of mapping of str to ndarray
            Of one row each, without a batch axis.
        names : sequence of str
            The inputs that the model takes.

        Returns
        -------
        dict of str to ndarray, shape (batch, …)

        Raises
        ------
        DataError
            When the model wants an input that rows of this kind do not give.
        """


def fields_of(processor: Any) -> dict[str, Any]:
    """Give what a processor was made with, by name, for one that has more than it."""
    return {one.name: getattr(processor, one.name) for one in fields(processor) if one.init}
