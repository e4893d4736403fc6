"""Every error that edgecompress raises on purpose, each with the exit code of the command line.

::

    EdgeCompressError        1   the base: catch this one
    ├── RecipeError          2   a recipe is wrong: names file, line, key and the nearest valid key
    ├── DataError            2   an input file is wrong: names the file and, if it has one, the line
    ├── ArgumentError        2   arguments exclude each other: says which to leave out
    ├── MissingExtraError    2   a package is not installed: gives the line that brings it
    ├── TargetError          1   a target did not answer: names the host and what failed
    ├── StageError           1   a stage failed: names the chain, the stage and the cause
    ├── BundleError          1   a bundle is damaged or of an unknown format: names the file
    ├── DiskError            1   a disk is full or read-only: names the folder and what to do
    └── ImageError           1   a container image cannot be built: says what is missing

A budget that no candidate meets is no error: `edgecompress run` ends with exit code 3 (or 4 when a
missing or invalid measurement leaves it undecided), after a full report.
"""

from __future__ import annotations

from pathlib import Path

from edgecompress.words import shortened

LONGEST_PLACE = 300
"""Characters of a path or a key in an error; longer ones are no help to anybody."""


def _place(file: Path | None, line: int | None) -> str:
    """Write where an error is: ``file:line``."""
    where = shortened(str(file or ""), LONGEST_PLACE)
    return f"{where}:{line}" if where and line else where


class EdgeCompressError(Exception):
    """Base of all errors; its text is one sentence that says what to do."""

    exit_code = 1


class RecipeError(EdgeCompressError):
    """A recipe (or a ``--set`` on the command line) is wrong.

    Parameters
    ----------
    message : str
        What is wrong and what to do.
    file : Path, optional
        The recipe's file.
    line : int, optional
        Line in the file, from 1.
    key : str, optional
        Dotted path of the key, such as ``stages[1].prune.structured.heads``.
    """

    exit_code = 2

    def __init__(
        self, message: str, *, file: Path | None = None, line: int | None = None, key: str = ""
    ) -> None:
        self.message, self.file, self.line, self.key = message, file, line, key
        parts = (_place(file, line), shortened(key, LONGEST_PLACE), message)
        super().__init__(": ".join(part for part in parts if part))


class DataError(EdgeCompressError):
    """A data file, a model directory or another input file is missing or malformed.

    Parameters
    ----------
    message : str
        What is wrong and what to do.
    file : Path, optional
        The file at fault.
    line : int, optional
        Line in the file, from 1.
    """

    exit_code = 2

    def __init__(self, message: str, *, file: Path | None = None, line: int | None = None) -> None:
        self.message, self.file, self.line = message, file, line
        parts = (_place(file, line), message)
        super().__init__(": ".join(part for part in parts if part))


class ArgumentError(EdgeCompressError):
    """Arguments of a command or function exclude each other; the text says which to leave out."""

    exit_code = 2


class MissingExtraError(EdgeCompressError):
    """A package outside the base install is needed.

    Parameters
    ----------
    package : str
        The package that could not be imported.
    extra : str
        The extra of edgecompress that brings it.
    instead : str
        What else would do, as the end of the sentence.
    """

    exit_code = 2

    def __init__(self, package: str, extra: str = "build", instead: str = "") -> None:
        from edgecompress.installing import install_extra  # imports that no help needs

        also = f", or {instead}" if instead else ""
        super().__init__(f"{package} is needed for this; {install_extra(extra)}{also}")


class TargetError(EdgeCompressError):
    """A target could not be reached or its agent failed; the text names the target."""


class StageError(EdgeCompressError):
    """A stage failed or broke its contract; the text names the stage and the cause."""


class BundleError(EdgeCompressError):
    """A bundle is damaged, incomplete or of an unknown format; the text names the file."""


class DiskError(EdgeCompressError):
    """A disk is full, read-only or over its quota; the text names the folder and what to do.

    It ends the whole command: nothing that comes later could be saved either.
    """


class ImageError(EdgeCompressError):
    """A container image cannot be built here; the text says what to install or to give."""
