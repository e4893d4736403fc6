"""Things that are found, not listed: a file each in a package of ours, or another's entry point."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import TypeVar

from edgecompress.errors import EdgeCompressError

Kind = TypeVar("Kind")


def found_classes(
    package: str,
    path: Iterable[str],
    base: type[Kind],
    group: str,
    name_of: Callable[[type[Kind]], str],
) -> dict[str, type[Kind]]:
    """Find the classes that can be used, by their names: ours first, others' by entry points.

    Parameters
    ----------
    package : str
        Whose files define one each.
    path : iterable of str
        Where its files lie.
    base : type
        What they derive from; what is abstract is left out.
    group : str
        The entry points, each of which names a class.
    name_of : callable
        Gives the name of a class.

    Raises
    ------
    EdgeCompressError
        When an entry point does not name such a class, or takes a name that is taken.
    """
    found: dict[str, type[Kind]] = {}
    for info in pkgutil.iter_modules(path):
        for one in _defined(importlib.import_module(f"{package}.{info.name}"), base):
            found[name_of(one)] = one
    for point in entry_points(group=group):
        where = f"the entry point {point.name!r} of {group} ({point.value})"
        try:
            one = point.load()
        except Exception as error:  # noqa: BLE001 - whatever another's package raises
            raise EdgeCompressError(f"{where} cannot be imported: {error}") from None
        if not (inspect.isclass(one) and issubclass(one, base)) or inspect.isabstract(one):
            raise EdgeCompressError(f"{where} names no {base.__name__} that can be made")
        if name_of(one) in found:
            raise EdgeCompressError(f"{where} takes the name {name_of(one)!r}, which is taken")
        found[name_of(one)] = one
    return found


def _defined(module: object, base: type[Kind]) -> Iterator[type[Kind]]:
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, base)
            and value.__module__ == getattr(module, "__name__", None)
            and not inspect.isabstract(value)
        ):
            yield value
