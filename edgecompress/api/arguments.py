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

from edgecompress.errors import RecipeError
from edgecompress.progress import Reporter, Silent
from edgecompress.resources import resource_folder
from edgecompress.words import asked_whether, nearest

StrPath: TypeAlias = "str | os.PathLike[str]"
StrPaths: TypeAlias = "StrPath | Sequence[StrPath]"

MODEL_AND_OUTPUT = """\
model : path or str
    A directory of Hugging Face's form or one that edgecompress wrote, a hub id, or (where ONNX is
    quantized) an .onnx file.
output : path
    Directory to write; a file name that ends in .onnx gets the model alone.
"""
DATA = """\
recipe : path or str, optional
    A recipe that says what the task, the data, the seed and the targets are: a file, or a name
    such as "quickstart".
task : str, optional
    What the model answers, such as token-classification. Left out, the model or the recipe says it.
format : str, optional
    What the files of data are: conll, text and so on. Left out, their names say it (.csv, .tsv,
    .jsonl, .parquet).
train, validation, test : path or sequence of paths, optional
    A file of examples of this split.
recipe_settings : mapping of str to object, optional
    Set a field of the recipe, such as data.root=DIR or seed=3.
store : path, optional
    Where results are kept between runs. Left out, it is the user's cache folder.
progress : bool or Reporter
    Whether to show how far the work is; a `Reporter` is told.
"""
FIELDS = """\
**fields
    Set a field of the stage. `edgecompress stages` lists the stages, `edgecompress stages NAME`
    the fields of one.

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
    """Give the recipe's file: a path, or the name of one that is installed (``quickstart``).

    Raises
    ------
    RecipeError
        When it is neither, with the nearest that there are.
    """
    path = Path(name)
    if path.exists():
        return path
    shipped = resource_folder("models") / path.name
    for candidate in (shipped, shipped.with_suffix(".yaml")):
        if candidate.is_file():
            return candidate
    known = {one.stem: one.stem for one in shipped.parent.glob("*.yaml") if not path.parent.name}
    known |= {one.stem: str(one) for one in path.parent.glob("*.y*ml") if one.is_file()}
    near = asked_whether([known[stem] for stem in nearest(path.stem, known)])
    raise RecipeError(f"there is no such file{near}", file=path)


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
