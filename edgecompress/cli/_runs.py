"""What is printed of a run: its tables, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecompress.api.running import MatrixRun, Run


def show_run(found: Run | MatrixRun, output: Path) -> int:
    """Print a run's tables and where its files are; give the exit code."""
    from rich.console import Console

    from edgecompress.api.running import Run
    from edgecompress.report.terminal import print_page
    from edgecompress.tasks import Task, task, task_names

    console = Console(highlight=False)
    print_page(found.page(), console)
    console.print(f"\nReport   {output / found.report.name}", soft_wrap=True)
    if isinstance(found, Run) and found.winner:
        console.print(f"Bundle   {output}/bundle", soft_wrap=True)
        console.print("\nNext, without torch:", style="bold")
        kind = found.result.task
        text = (task(kind) if kind in task_names() else Task).sample
        console.print(f'  edgecompress predict {output}/bundle "{text}"', soft_wrap=True)
        console.print(f"  edgecompress bundle verify {output}/bundle", soft_wrap=True)
    return found.exit_code
