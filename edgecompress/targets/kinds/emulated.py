"""``emulated://``: a processor that this machine emulates (`edgecompress.targets.emulated`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from edgecompress.targets.base import Progress
from edgecompress.targets.spec import (
    TargetFinding,
    TargetReport,
    TargetSpec,
    can_measure,
    removed,
    report_of,
)

if TYPE_CHECKING:
    from edgecompress.targets.emulated.target import Emulated


class EmulatedSpec(TargetSpec):
    """A processor under QEMU: it answers and counts instructions, and nothing is timed there."""

    form: ClassVar[str] = "emulated://cortex-a72"
    title: ClassVar[str] = "an emulated processor"

    @classmethod
    def urls(cls) -> Mapping[str, str]:
        """Give all processors."""
        from edgecompress.targets.emulated.cpus import CPUS

        return {cpu.url: f"{cpu.title}, emulated" for cpu in CPUS.values()}

    def open(self) -> Emulated:
        """Give the processor; it is prepared when it is first needed."""
        from edgecompress.targets.emulated.target import Emulated

        return Emulated.of(self)

    def check(self) -> TargetReport:
        """See whether it is prepared, and what it is."""
        from edgecompress.targets.emulated.setup import prepared

        target = self.open()
        if not prepared(self.url):
            advice = f"run: edgecompress targets prepare {self.name}"
            missing = TargetFinding("not prepared yet", advice, "missing")
            return TargetReport(self, can=can_measure(target), findings=(missing,))
        reason = target.not_measured("instructions")
        facts = target.describe()
        for key in ("memory_bytes", "kernel", "cores"):  # those of the host
            facts.pop(key, None)
        missing = TargetFinding("instructions are not counted", reason or "", "missing")
        found = report_of(self, target, facts, (missing,) if reason else ())
        left_out = "instructions" if reason else None
        return replace(found, can=tuple(metric for metric in found.can if metric != left_out))

    def prepare(self, progress: Progress) -> str:
        """Have its emulator, its files and the plugin that counts."""
        from edgecompress.targets.emulated.setup import prepare, prepared

        before = prepared(self.url)
        reason = prepare(self.url, progress).reason
        unless = f", but instructions are not counted: {reason}" if reason else ""
        return f"{'was ready already' if before else 'ready'}{unless}"

    def clean(self) -> str:
        """Remove what was prepared for any processor."""
        from edgecompress.targets.emulated.setup import clean

        return removed(clean(), ", which all emulated processors share")
