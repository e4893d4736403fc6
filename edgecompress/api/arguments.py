"""What arguments are: places, one value or several, and who is told how far the work is.

Nothing here needs more than the base install.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from edgecompress.progress import Reporter, Silent
from edgecompress.resources import resource_folder

StrPath: TypeAlias = "str | os.PathLike[str]"
StrPaths: TypeAlias = "StrPath | Sequence[StrPath]"

MODEL_AND_OUTPUT = """\
model : path or str
    A candidate's or Hugging Face directory, or a hub id.
output : path
    Directory to write; a file name ending in .onnx writes the model alone.
"""
DATA = """\
recipe : path or str, optional
    Take task, data, seed and targets from this recipe: a file, or a name such as "quickstart".
task : str, optional
    What it does, such as token-classification; else what the model or the recipe says.
format : str, optional
    Of the data files: conll, text …; else their suffix says it (.csv, .tsv, .jsonl, .parquet).
train, validation, test : path or sequence of paths, optional
    Data files.
recipe_settings : mapping of str to object, optional
    Set a field of the recipe, such as data.root=DIR or seed=3.
store : path, optional
    Where results are kept between runs; the user's cache folder when left out.
progress : bool or Reporter
    Whether to show how far the work is; a `Reporter` is told.
"""
FIELDS = """\
**fields
    Fields of the stage; `edgecompress stages NAME` lists them.

Returns
-------
StageResult

Raises
------
EdgeCompressError
    When the model, the data, a field or the output is at fault, or the stage fails.
"""
SHARED = {
    "MODEL_AND_OUTPUT": MODEL_AND_OUTPUT,
    "DATA": DATA,
    "DATA_AND_FIELDS": DATA + FIELDS,
}
"""What the docstrings of many functions say alike: each stands there as a line with its name."""


def described(docstring: str) -> str:
    """Give a docstring with what it shares with others put into place."""
    text = inspect.cleandoc(docstring)
    return re.sub(
        r"^(\w+)$\n?", lambda found: SHARED.get(found[1], found[0]), f"{text}\n", flags=re.MULTILINE
    )


def several(given: Any) -> tuple[Any, ...]:
    """Give one value or several as a tuple."""
    return (given,) if isinstance(given, str | int | os.PathLike) else tuple(given)


def find_recipe(name: StrPath) -> Path:
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
