"""``ssh://``: a board over SSH (`edgecompress.targets.ssh` does the work)."""

from __future__ import annotations

from typing import ClassVar

from edgecompress.targets.base import Progress, Target
from edgecompress.targets.spec import TargetReport, TargetSpec, removed
from edgecompress.targets.ssh.fields import SshFields


class SshSpec(SshFields, TargetSpec):
    """A board over SSH."""

    form: ClassVar[str] = "ssh://user@host:port"
    title: ClassVar[str] = "a board"

    def open(self) -> Target:
        """Give the board; its address is read."""
        from edgecompress.targets.ssh.target import Ssh

        return Ssh(self)

    def check(self) -> TargetReport:
        """Connect to it and look at it."""
        from edgecompress.targets.ssh.check import check

        return check(self)

    def prepare(self, progress: Progress) -> str:
        """Make a virtual environment there."""
        from edgecompress.targets.ssh.prepare import prepare

        found = prepare(self, progress)
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        return f"{'ready' if found.made else 'was ready already'}: {versions}, in {found.python}"

    def clean(self) -> str:
        """Remove its cache folder."""
        from edgecompress.targets.ssh.target import Ssh

        return removed(Ssh(self).clean())
