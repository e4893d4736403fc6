"""Where models are measured: this machine, boards over SSH, emulated processors."""

from __future__ import annotations

from edgecompress.errors import RecipeError
from edgecompress.targets.base import Job, JobModel, Launcher, Readings, Target
from edgecompress.targets.fleet import TargetSpec

__all__ = ["Job", "JobModel", "Launcher", "Readings", "Target", "TargetSpec", "open_target"]


def open_target(spec: TargetSpec | str) -> Target:
    """Give the target that a specification or a URL means; nothing is connected to yet.

    Raises
    ------
    RecipeError
        When there is no such target.
    """
    if isinstance(spec, str):
        spec = TargetSpec(name=spec, url=spec)
    scheme = spec.url.partition("://")[0]
    if scheme == "local":
        from edgecompress.targets.local import Local

        return Local(name=spec.name, samples=spec.samples, spec=spec)
    if scheme == "emulated":
        from edgecompress.targets.emulated import Emulated

        return Emulated.of(spec)
    if scheme == "ssh":
        from edgecompress.targets.ssh import Ssh

        return Ssh(spec)
    raise RecipeError(f"{spec.url}: targets over {scheme}:// are not built yet; only local is")
