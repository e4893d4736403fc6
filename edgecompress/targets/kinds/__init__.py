"""The kinds of targets: a file each, found by itself, and those of others by entry points.

Adding a kind is adding one file that defines one `TargetSpec`, or an entry point that names one.
"""

from __future__ import annotations

import functools
import re

from edgecompress.discovery import found_classes
from edgecompress.errors import RecipeError
from edgecompress.targets.spec import TargetSpec

GROUP = "edgecompress.targets"
"""The entry points by which others add kinds."""


@functools.cache
def kinds() -> dict[str, type[TargetSpec]]:
    """Give every kind by its name, which is what its URLs begin with.

    Raises
    ------
    EdgeCompressError
        When an entry point cannot be imported, or names no kind.
    """

    def name_of(kind: type[TargetSpec]) -> str:
        return kind.form.partition("://")[0]

    return found_classes(__name__, __path__, TargetSpec, GROUP, name_of)  # type: ignore[type-abstract]


def kind_of(url: str) -> type[TargetSpec] | None:
    """Find the kind that a URL is of; None where it is of none."""
    kind = kinds().get(url.partition("://")[0])
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
        raise RecipeError(f"unknown target {url!r}: a target is {forms()}")
    return kind(name=url, url=url)
