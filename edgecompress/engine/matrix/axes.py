"""What stands under `matrix:` of a recipe: axes, constants and named values, checked; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgecompress.engine.recipe import RecipeFields
from edgecompress.values import Json
from edgecompress.words import meant
from edgecompress.yamlfile import KeyPath, YamlFile

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
Brought = Mapping[str, Mapping[str, Any]]
"""What the named values of an axis bring: by value, by name, anything."""


def read_axes(
    document: Any, source: YamlFile
) -> tuple[dict[str, tuple[Scalar, ...]], dict[str, Scalar], dict[str, Brought]]:
    """Check `matrix:` and divide it into axes, constants (one value), and what values bring."""
    if not isinstance(document, dict) or not document:
        raise source.error("a matrix names axes, each with a list of values", (MATRIX,))
    axes: dict[str, tuple[Scalar, ...]] = {}
    constants: dict[str, Scalar] = {}
    brought: dict[str, Brought] = {}
    taken = {*document}
    for name, given in document.items():
        path: KeyPath = (MATRIX, name)
        _check_name(name, path, source)
        values = [*given] if isinstance(given, list | dict) else [given]
        if not values:
            raise source.error("this axis has no values", path)
        for index, value in enumerate(values):
            place = value if isinstance(given, dict) else index
            _check_value(value, values[:index], (*path, place), source)
        if isinstance(given, dict):
            brought[name] = _brought(given, path, taken, source)
            taken |= {*brought[name][str(values[0])]}
        if isinstance(given, list | dict):
            axes[name] = tuple(values)
        else:
            constants[name] = given
    if not axes:
        raise source.error("a matrix needs an axis: a name with a list of values", (MATRIX,))
    return axes, constants, brought


def _check_name(name: Any, path: KeyPath, source: YamlFile) -> None:
    if not isinstance(name, str) or not PLACEHOLDER.fullmatch(f"{{{name}}}"):
        raise source.error("an axis is named by letters, digits and _", path)
    if len(path) == 2 and name in RecipeFields.model_fields and name not in SETS_FIELD:
        raise source.error(
            f"{name} of a recipe cannot be set by an axis (only {', '.join(SETS_FIELD)} can); "
            "choose another name and write it as {…} where it is wanted",
            path,
        )


def _brought(given: Json, path: KeyPath, taken: set[str], source: YamlFile) -> Brought:
    """Check what the named values of an axis bring: the same names each, anything for each."""
    first, names = next(iter(given)), None
    for value, each in given.items():
        place = (*path, value)
        if not isinstance(each, dict) or not each:
            raise source.error(
                "a value that is named brings further ones: a mapping of names to them", place
            )
        names = names or {*each}
        if {*each} != names:
            odd = sorted(map(str, names ^ {*each}))[0]
            raise source.error(f"{value} and {first} must bring the same names; not both bring "
                               f"{odd!r}", place)  # fmt: skip
        for name, one in each.items():
            _check_name(name, (*place, name), source)
            if name in taken:
                raise source.error(f"{name} is taken already", (*place, name))
            if any(isinstance(leaf, str) and PLACEHOLDER.search(leaf) for leaf in _leaves(one)):
                raise source.error("a value cannot hold a placeholder itself", (*place, name))
    return {str(value): each for value, each in given.items()}


def _leaves(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for one in inner:
            yield from _leaves(one)
    else:
        yield value


def check_size(
    axes: Mapping[str, tuple[Scalar, ...]],
    brought: Mapping[str, Brought],
    places: int,
    source: YamlFile,
) -> None:
    """Bound the cells, and what all of them hold where every placeholder gets the largest value."""
    total = math.prod(len(values) for values in axes.values())
    if total > MAX_CELLS:
        raise source.error(f"the axes give {total} cells; {MAX_CELLS} is the most", (MATRIX,))
    held = [one for each in brought.values() for values in each.values() for one in values.values()]
    entries = len(source.lines) + places * max((sum(1 for _ in _leaves(one)) for one in held),
                                               default=0)  # fmt: skip
    if total * entries > MAX_ENTRIES:
        raise source.error(
            f"{total} cells of a recipe of {entries} entries are too many; "
            f"{MAX_ENTRIES:,} entries are the most of all cells",
            (MATRIX,),
        )


def _check_value(value: Any, before: Sequence[Any], path: KeyPath, source: YamlFile) -> None:
    if not isinstance(value, str | int | float) or value == "":
        raise source.error("a value is text, a number, true or false", path)
    if len(str(value)) > MAX_VALUE:
        raise source.error(f"a value has at most {MAX_VALUE} characters", path)
    if isinstance(value, str) and PLACEHOLDER.search(value):
        raise source.error("a value cannot hold a placeholder itself", path)
    if str(value) in [str(one) for one in before]:
        raise source.error(f"{value!r} stands twice on this axis", path)


def check_use(
    document: Json, given: set[str], brought: Mapping[str, Brought], source: YamlFile
) -> int:
    """Check that every placeholder is known, and each of those is used; count the placeholders."""
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
    for name in sorted(given - brought.keys()):  # an axis of named values need not be written
        if name in SETS_FIELD:
            if name in document:
                raise source.error(f"the matrix sets {name}; leave it out here", (name,))
        elif name not in used:
            raise source.error(
                f"nothing in the recipe depends on this; write {{{name}}} where it is wanted",
                _place_of(name, brought),
            )
    return places


def _place_of(name: str, brought: Mapping[str, Brought]) -> KeyPath:
    """Name the key of a value: of one that is brought, where it stands first."""
    for axis, each in brought.items():
        first, names = next(iter(each.items()))
        if name in names:
            return MATRIX, axis, first, name
    return MATRIX, name
