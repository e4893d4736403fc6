"""What arguments are: places, one value or several, and who is told how far the work is.

Nothing here needs more than the base install.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from edgecompress.progress import Reporter, Silent
from edgecompress.resources import resource_folder

Place: TypeAlias = "str | os.PathLike[str]"
Places: TypeAlias = "Place | Sequence[Place]"


def several(given: Any) -> tuple[Any, ...]:
    """Give one value or several as a tuple."""
    return (given,) if isinstance(given, str | int | os.PathLike) else tuple(given)


def find_recipe(name: Place) -> Path:
    """Give the recipe's file: a path, or the name of one that is installed (``quickstart``)."""
    path = Path(name)
    if path.exists():
        return path
    shipped = resource_folder("models") / path.name
    for candidate in (shipped, shipped.with_suffix(".yaml")):
        if candidate.is_file():
            return candidate
    return path


@contextlib.contextmanager
def reporting(progress: bool | Reporter) -> Iterator[Reporter]:
    """Give who is told how far the work is: bars and lines, or nobody."""
    if progress is not True:
        yield progress or Silent()
        return
    try:
        from edgecompress.api.progress import TerminalReporter
    except ModuleNotFoundError:  # a device has the base install
        yield Silent()
        return
    with TerminalReporter() as reporter:
        yield reporter
