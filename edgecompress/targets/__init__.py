"""Where models are measured: this machine now, boards and emulated processors later."""

from __future__ import annotations

from edgecompress.errors import RecipeError
from edgecompress.targets.base import Job, JobModel, Readings, Target

__all__ = ["Job", "JobModel", "Readings", "Target", "target"]


def target(url: str) -> Target:
    """Find the target that a recipe names.

    Parameters
    ----------
    url : str
        ``local``.

    Raises
    ------
    RecipeError
        When there is no such target.
    """
    from edgecompress.targets.local import Local

    if url == "local":
        return Local()
    scheme = url.partition("://")[0]
    if scheme in ("ssh", "emulated"):
        raise RecipeError(f"{url}: targets over {scheme}:// are not built yet; only local is")
    raise RecipeError(f"unknown target {url!r}; the only one is local")
