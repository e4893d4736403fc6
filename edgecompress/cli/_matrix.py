"""What `edgecompress run` and `check` say of a recipe with a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.cli._output import say

if TYPE_CHECKING:
    from edgecompress.engine.matrix import Matrix
    from edgecompress.report.matrix.values import CellResult, MatrixResult


def run_cells(
    matrix: Matrix, output: Path, *, only: Sequence[str], store: Path | None, command: str
) -> int:
    """Run the cells that are due, say after each how far it is, and give the exit code."""
    from rich.console import Console

    from edgecompress.api.progress import TerminalReporter
    from edgecompress.engine.matrix import select
    from edgecompress.engine.matrix.run import exit_code, run_matrix
    from edgecompress.report.matrix.page import matrix_page, state_words
    from edgecompress.report.terminal import print_page
    from edgecompress.report.words import duration

    chosen = [cell.name for cell in select(matrix, only)]
    with TerminalReporter() as reporter:

        def said(known: MatrixResult, cell: CellResult) -> None:
            text = f"{cell.name} {cell.state} after {duration(cell.seconds)}"
            reporter.console.print(text, style="bold", markup=False)
            if cell.reason:
                reporter.console.print(f"  {cell.reason}", markup=False)
            reporter.console.print(f"  {state_words(known)}", markup=False)

        result = run_matrix(
            matrix,
            output,
            only=only,
            store=store,
            reporter=reporter,
            command=command,
            after=said,
        )
    console = Console(highlight=False)
    print_page(matrix_page(result), console)
    console.print(f"\nReport   {output}/matrix.html", soft_wrap=True)
    return exit_code(result, chosen)


def list_matrix(matrix: Matrix, output: Path, only: Sequence[str]) -> None:
    """Print a line per cell: its name, state and time."""
    from edgecompress.engine.matrix import select
    from edgecompress.engine.matrix.run import look
    from edgecompress.report.matrix.page import state_words
    from edgecompress.report.words import duration

    chosen = {cell.name for cell in select(matrix, only)}
    result = look(matrix, output)
    width = max(len(name) for name in chosen) if chosen else 0
    for cell in result.cells:
        if cell.name in chosen:
            state = "not yet" if cell.state == "waiting" else cell.state
            took = duration(cell.seconds) if cell.seconds else ""
            say(f"{cell.name:<{width}}  {state:<8}  {took:>10}  {cell.reason or ''}".rstrip())
    say(state_words(result))
