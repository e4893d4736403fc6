"""From a recipe with a `matrix:` to one checked recipe per cell; pure but for reading the file.

::

    matrix:
      language: [hau, ibo, pcm]     # an axis: a list
      seed: [7, 8, 9]               # named like a field of a recipe: it sets that field
      base: castorini/afriberta_base   # a constant: one value, in no cell's name
      kind:                         # an axis whose values are named, and bring further ones
        text: {task: text-classification, cuts: [prune.layers: {keep: 2}]}
        words: {task: token-classification, cuts: []}

``{language}`` in any text of the recipe is filled in per cell. A text that is nothing but a
placeholder gets the value as it is, so that ``epochs: "{epochs}"`` is a number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from edgecompress.engine.matrix.axes import (
    MATRIX,
    PLACEHOLDER,
    SETS_FIELD,
    Scalar,
    check_size,
    check_use,
    read_axes,
)
from edgecompress.engine.recipe import Recipe, build_recipe
from edgecompress.engine.recipe_paths import absolute_paths
from edgecompress.errors import DataError, RecipeError
from edgecompress.values import Json
from edgecompress.words import meant
from edgecompress.yamlfile import Settings, YamlFile, apply_settings, read_yaml


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
    axes, constants, brought = read_axes(document.pop(MATRIX), source)
    names = {name: axis for axis, each in brought.items() for name in next(iter(each.values()))}
    places = check_use(document, {*axes, *constants, *names}, brought, source)
    check_size(axes, brought, places, source)
    cells: list[MatrixCell] = []
    for values in _combinations(axes):
        given: dict[str, Any] = {**constants, **values}
        for axis, each in brought.items():
            given |= each[str(values[axis])]

        def laid_over(given: Mapping[str, Any] = given) -> Json:
            """Fill in first and make paths absolute then: a path may hold a placeholder."""
            base = absolute_paths(fill(parsed.document, given), file.parent, corpora=())
            whole: Json = fill(apply_settings(base, settings), given)
            del whole[MATRIX]
            here = Path.cwd()
            return absolute_paths(whole, here, corpora=(file.parent, here))

        cells.append(_cell(values, given, laid_over, source))
    called = [cell.name for cell in cells]
    for name in called:
        if called.count(name) > 1:
            raise source.error(
                f"two cells would be called {name!r}; give values that differ", (MATRIX,)
            )
    name = PLACEHOLDER.sub("", str(document.get("name", ""))).strip("-._ ") or file.stem
    return Matrix(name, axes, constants, tuple(cells), source)


def fill(document: Any, given: Mapping[str, Any]) -> Any:
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


def _combinations(axes: Mapping[str, tuple[Scalar, ...]]) -> list[dict[str, Scalar]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _cell(
    values: Mapping[str, Scalar],
    given: Mapping[str, Any],
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
