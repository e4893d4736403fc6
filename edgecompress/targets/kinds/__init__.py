"""The kinds of targets: one file each, found by itself.

A file of this package that defines a ``KIND`` brings one kind: a class of targets, whose name (the
file's) is what their URLs begin with. A third party brings one by an entry point of the group
``edgecompress.targets`` whose name is the kind's and whose value names the class.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from edgecompress.errors import RecipeError, TargetError
from edgecompress.targets.spec import TargetSpec

GROUP = "edgecompress.targets"
"""The entry points by which third parties bring theirs."""


@functools.cache
def _ours() -> Mapping[str, type[TargetSpec]]:
    names = (info.name for info in pkgutil.iter_modules(__path__) if info.name[0] != "_")
    return {name: importlib.import_module(f"{__name__}.{name}").KIND for name in names}


@functools.cache
def _theirs() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _ours()}


@functools.cache
def _loaded(name: str) -> type[TargetSpec]:
    point = _theirs()[name]
    where = f"the entry point {point.value} of the group {GROUP}"
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
        raise TargetError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from None
    if not inspect.isclass(found) or not issubclass(found, TargetSpec) or inspect.isabstract(found):
        raise TargetError(f"{where} must name a class of edgecompress.targets.TargetSpec, complete")
    if found.form.partition("://")[0] != name:
        raise TargetError(f"{where} is named {name!r}, and its URLs look like {found.form}")
    return found


def kinds() -> dict[str, type[TargetSpec]]:
    """Give every kind by its name, ours first.

    Raises
    ------
    TargetError
        When a third party's entry point cannot be loaded, or names no kind.
    """
    return {**_ours(), **{name: _loaded(name) for name in _theirs()}}


def kind_of(url: str) -> type[TargetSpec] | None:
    """Find the kind that a URL is of; None where it is of none.

    Raises
    ------
    TargetError
        When it is of a third party's kind, and that cannot be loaded.
    """
    name = url.partition("://")[0]
    kind = _ours().get(name) or (_loaded(name) if name in _theirs() else None)
    return kind if kind is not None and re.match(kind.pattern(), url) else None


def forms() -> str:
    """Say what the URLs of all kinds look like: ``a://…, b or c://…``."""
    *most, last = (
        f"{name}://…" if "://" in kind.form else kind.form for name, kind in kinds().items()
    )
    return f"{', '.join(most)} or {last}" if most else last


def named_by_url(url: str) -> TargetSpec:
    """Give the target that a URL means, without further settings.

    Raises
    ------
    RecipeError
        When it is of no kind.
    """
    kind = kind_of(url)
    if kind is None:
        raise RecipeError(f"unknown target {url!r}: it is no {forms()}")
    return kind(name=url, url=url)
