"""From a recipe with a `matrix:` to one checked recipe per cell; pure but for reading the file.

::

    matrix:
      language: [hau, ibo, pcm]     # an axis: a list
      seed: [7, 8, 9]               # named like a field of a recipe: it sets that field
      base: castorini/afriberta_base   # a constant: one value, in no cell's name

``{language}`` in any text of the recipe is filled in per cell. A text that is nothing but a
placeholder gets the value as it is, so that ``epochs: "{epochs}"`` is a number.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from edgecompress.engine.recipe import Recipe, RecipeFields, build_recipe
from edgecompress.engine.recipe_paths import absolute_paths
from edgecompress.errors import DataError, RecipeError
from edgecompress.values import Json
from edgecompress.words import meant
from edgecompress.yamlfile import KeyPath, Settings, YamlFile, apply_settings, read_yaml

MATRIX = "matrix"
MAX_CELLS = 500
"""More is a mistake in the axes, not a plan: at ten minutes each it is half a week."""
MAX_ENTRIES = 500_000
"""Of all cells together; each cell is a recipe of its own in memory."""
MAX_VALUE = 500
"""Characters of an axis' value: a word, a number, a path or a hub id."""
MAX_PLACES = 500
"""Placeholders of a recipe; with the longest values they make 250 kB of each cell."""
SETS_FIELD = ("seed", "threads", "task", "model", "minimize")
"""Fields of a recipe that an axis of the same name sets: those with one plain value."""
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One recipe of the matrix.

    Attributes
    ----------
    name : str
        The values of its axes, joined by ``-``; its folder in the output.
    values : mapping
        Its value on each axis.
    recipe : Recipe
    """

    name: str
    values: Mapping[str, Scalar]
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Matrix:
    """A recipe with axes, and the cells that it stands for, the last axis varying fastest."""

    name: str
    axes: Mapping[str, tuple[Scalar, ...]]
    constants: Mapping[str, Scalar]
    cells: tuple[MatrixCell, ...]
    source: YamlFile = field(repr=False, default=YamlFile({}, None, {}))


def read_matrix(file: Path, settings: Settings = ()) -> Matrix | None:
    """Read a recipe that has a `matrix:` and check every cell of it.

    Parameters
    ----------
    file : Path
        The YAML file; relative paths in it are relative to its folder.
    settings : mapping of str to object, or sequence of str
        Laid over the recipe before it is expanded, by key or as ``key=value``; placeholders are
        filled in there, too, and ``matrix.seed=[7]`` sets an axis.

    Returns
    -------
    Matrix or None
        None when the recipe has no `matrix:`.

    Raises
    ------
    RecipeError, DataError
        At the first thing that is wrong, with the cell's name where only a cell has it.
    """
    parsed = read_yaml(file)
    if not isinstance(parsed.document, dict):
        raise RecipeError("a recipe is a mapping of keys", file=file, line=1)
    document = apply_settings(parsed.document, settings)
    if MATRIX not in document:
        return None
    source = YamlFile(document, file, parsed.lines)
    axes, constants = _axes(document.pop(MATRIX), source)
    _check_use(document, {**axes, **constants}, source)
    cells: list[MatrixCell] = []
    for values in _combinations(axes):
        given = {**constants, **values}

        def laid_over(given: Mapping[str, Scalar] = given) -> Json:
            """Fill in first and make paths absolute then: a path may hold a placeholder."""
            base = absolute_paths(fill(parsed.document, given), file.parent, corpora=())
            whole: Json = fill(apply_settings(base, settings), given)
            del whole[MATRIX]
            here = Path.cwd()
            return absolute_paths(whole, here, corpora=(file.parent, here))

        cells.append(_cell(values, given, laid_over, source))
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise source.error(
                f"two cells would be called {name!r}; give values that differ", (MATRIX,)
            )
    name = PLACEHOLDER.sub("", str(document.get("name", ""))).strip("-._ ") or file.stem
    return Matrix(name, axes, constants, tuple(cells), source)


def fill(document: Any, given: Mapping[str, Scalar]) -> Any:
    """Give a document with every placeholder of `given` filled in; others are left as they are."""
    if isinstance(document, dict):
        return {key: fill(value, given) for key, value in document.items()}
    if isinstance(document, list):
        return [fill(value, given) for value in document]
    if not isinstance(document, str):
        return document
    whole = PLACEHOLDER.fullmatch(document)
    if whole and whole[1] in given:
        return given[whole[1]]
    return PLACEHOLDER.sub(lambda hit: str(given.get(hit[1], hit[0])), document)


def select(matrix: Matrix, only: Sequence[str]) -> tuple[MatrixCell, ...]:
    """Give the cells that `only` asks for, in order; all of them where it is empty.

    Parameters
    ----------
    matrix : Matrix
    only : sequence of str
        ``axis=value`` or several, joined by commas. Values of one axis are alternatives; every
        axis that is named must fit.

    Raises
    ------
    RecipeError
        When an axis or a value is not in the matrix.
    """
    wanted: dict[str, set[str]] = {}
    for part in itertools.chain.from_iterable(one.split(",") for one in only):
        axis, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise RecipeError(f"--only wants AXIS=VALUE, not {part!r}")
        if axis not in matrix.axes:
            known = meant(axis, matrix.axes)
            raise RecipeError(f"the matrix has no axis {axis!r}{known}", key=f"--only {part}")
        values = [str(one) for one in matrix.axes[axis]]
        if value not in values:
            known = meant(value, values)
            raise RecipeError(f"{axis} has no value {value!r}{known}", key=f"--only {part}")
        wanted.setdefault(axis, set()).add(value)
    return tuple(
        cell
        for cell in matrix.cells
        if all(str(cell.values[axis]) in values for axis, values in wanted.items())
    )


def _axes(
    document: Any, source: YamlFile
) -> tuple[dict[str, tuple[Scalar, ...]], dict[str, Scalar]]:
    """Check `matrix:` and divide it into axes (lists) and constants (one value)."""
    if not isinstance(document, dict) or not document:
        raise source.error("a matrix names axes, each with a list of values", (MATRIX,))
    axes: dict[str, tuple[Scalar, ...]] = {}
    constants: dict[str, Scalar] = {}
    for name, given in document.items():
        path: KeyPath = (MATRIX, name)
        if not isinstance(name, str) or not PLACEHOLDER.fullmatch(f"{{{name}}}"):
            raise source.error("an axis is named by letters, digits and _", path)
        if name in RecipeFields.model_fields and name not in SETS_FIELD:
            raise source.error(
                f"{name} of a recipe cannot be set by an axis (only {', '.join(SETS_FIELD)} can); "
                "choose another name and write it as {…} where it is wanted",
                path,
            )
        values = given if isinstance(given, list) else [given]
        if not values:
            raise source.error("this axis has no values", path)
        for index, value in enumerate(values):
            _check_value(value, values[:index], (*path, index), source)
        if isinstance(given, list):
            axes[name] = tuple(values)
        else:
            constants[name] = given
    if not axes:
        raise source.error("a matrix needs an axis: a name with a list of values", (MATRIX,))
    total = math.prod(len(values) for values in axes.values())
    if total * len(source.lines) > MAX_ENTRIES and total <= MAX_CELLS:
        raise source.error(
            f"{total} cells of a recipe of {len(source.lines)} entries are too many; "
            f"{MAX_ENTRIES:,} entries are the most of all cells",
            (MATRIX,),
        )
    if total > MAX_CELLS:
        raise source.error(f"the axes give {total} cells; {MAX_CELLS} is the most", (MATRIX,))
    return axes, constants


def _check_value(value: Any, before: Sequence[Any], path: KeyPath, source: YamlFile) -> None:
    if not isinstance(value, str | int | float) or value == "":
        raise source.error("a value is text, a number, true or false", path)
    if len(str(value)) > MAX_VALUE:
        raise source.error(f"a value has at most {MAX_VALUE} characters", path)
    if isinstance(value, str) and PLACEHOLDER.search(value):
        raise source.error("a value cannot hold a placeholder itself", path)
    if str(value) in [str(one) for one in before]:
        raise source.error(f"{value!r} stands twice on this axis", path)


def _check_use(document: Json, given: Mapping[str, Any], source: YamlFile) -> None:
    """Check that every placeholder is an axis or a constant, and each of those is used."""
    used: set[str] = set()
    places = 0

    def walk(value: Any, path: KeyPath) -> None:
        nonlocal places
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, (*path, index))
        elif isinstance(value, str):
            for name in PLACEHOLDER.findall(value):
                if name not in given:
                    raise source.error(f"unknown placeholder {{{name}}}{meant(name, given)}", path)
                used.add(name)
                places += 1
                if places > MAX_PLACES:
                    raise source.error(f"there are more than {MAX_PLACES} placeholders", path)

    walk(document, ())
    for name in given:
        if name in SETS_FIELD:
            if name in document:
                raise source.error(f"the matrix sets {name}; leave it out here", (name,))
        elif name not in used:
            raise source.error(
                f"nothing in the recipe depends on this; write {{{name}}} where it is wanted",
                (MATRIX, name),
            )


def _combinations(axes: Mapping[str, tuple[Scalar, ...]]) -> list[dict[str, Scalar]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _cell(
    values: Mapping[str, Scalar],
    given: Mapping[str, Scalar],
    laid_over: Callable[[], Json],
    source: YamlFile,
) -> MatrixCell:
    name = "-".join(_slug(value) for value in values.values())
    document = laid_over()
    document |= {key: value for key, value in given.items() if key in SETS_FIELD}
    written = source.document.get("name")
    if isinstance(written, str) and not PLACEHOLDER.search(written):
        document["name"] = f"{written}-{name}"
    try:
        recipe = build_recipe(YamlFile(document, source.file, source.lines))
    except (RecipeError, DataError) as error:
        raise in_cell(error, name) from None
    return MatrixCell(name, dict(values), recipe)


def in_cell(error: RecipeError | DataError, name: str) -> RecipeError | DataError:
    """Give the same error with the cell's name behind it."""
    text = f"{error.message} (cell {name})"
    if isinstance(error, RecipeError):
        return RecipeError(text, file=error.file, line=error.line, key=error.key)
    return DataError(text, file=error.file, line=error.line)


def _slug(value: Scalar) -> str:
    """Make a part of a file name of a value; of a path or a hub id its last part."""
    text = (PurePath(value).name or value) if isinstance(value, str) else str(value)
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "value"
