"""``local``: the machine that runs edgecompress."""

from __future__ import annotations

from typing import ClassVar

from edgecompress.targets.base import Progress, Target
from edgecompress.targets.spec import TargetReport, TargetSpec, governor, report_of

_COMMAND = "run: sudo cpupower frequency-set -g performance"


class LocalSpec(TargetSpec):
    """The machine that runs edgecompress; it is always there."""

    form: ClassVar[str] = "local"
    title: ClassVar[str] = "this machine"

    def open(self) -> Target:
        """Give this machine."""
        from edgecompress.targets.local import Local

        return Local(name=self.name, samples=self.samples, spec=self)

    def check(self) -> TargetReport:
        """Look at it."""
        target = self.open()
        facts = target.describe()
        return report_of(self, target, facts, governor(self, facts, _COMMAND))

    def prepare(self, progress: Progress) -> str:  # noqa: ARG002 - nothing is to be done
        """Do nothing."""
        return "this machine needs no preparation"

    def clean(self) -> str:
        """Do nothing."""
        return "nothing is left on this machine but the store of results"
