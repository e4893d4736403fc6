"""What running a recipe gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.paged import Paged
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.matrix.run import exit_code as exit_code_of_matrix
from edgecompress.engine.run import exit_code as exit_code_of_run
from edgecompress.report.blocks import Page
from edgecompress.report.matrix.page import matrix_page, state_words
from edgecompress.report.matrix.values import MatrixResult
from edgecompress.report.run_page import run_page
from edgecompress.report.words import duration
from edgecompress.values import Row, RunResult, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class Run(Paged):
    """What a run found out, and the directory that it wrote.

    Attributes
    ----------
    result : RunResult
        All of it, as ``results.json`` holds it.
    output : Path
    """

    result: RunResult
    output: Path

    @property
    def winner(self) -> str | None:
        """The candidate that keeps the budget and is best; None when none does."""
        return self.result.winner

    @property
    def verdict(self) -> Verdict:
        """Whether the budget is kept, and why."""
        return self.result.verdict

    @property
    def rows(self) -> tuple[Row, ...]:
        """References and candidates, with all that was measured of each."""
        return self.result.rows

    @property
    def report(self) -> Path:
        """The page that tells all."""
        return self.output / "report.html"

    @property
    def bundle(self) -> Path | None:
        """The directory that deploys the winner."""
        return self.output / "bundle" if self.winner else None

    @property
    def exit_code(self) -> int:
        """0 when a winner keeps the budget, 3 when none does, 4 when it is undecided."""
        return exit_code_of_run(self.result)

    def page(self) -> Page:
        """Lay out the results."""
        return run_page(self.result)


@dataclass(frozen=True, slots=True, repr=False)
class MatrixRun(Paged):
    """What the cells of a matrix found out; `names` are those that were asked for."""

    result: MatrixResult
    output: Path
    names: tuple[str, ...]

    @property
    def report(self) -> Path:
        """The page that shows all cells."""
        return self.output / "matrix.html"

    @property
    def exit_code(self) -> int:
        """1 when a cell failed; else 4 when one is undecided, 3 when one has no winner, or 0."""
        return exit_code_of_matrix(self.result, self.names)

    def page(self) -> Page:
        """Lay out the results of all cells."""
        return matrix_page(self.result)


@dataclass(frozen=True, slots=True, repr=False)
class MatrixCells(Shown):
    """The cells of a matrix and how far each is; `names` are those that were asked for."""

    result: MatrixResult
    names: tuple[str, ...]

    def sections(self) -> Iterator[Section]:
        """Lay out the name, state and time of each."""
        lines = tuple(
            (
                cell.name,
                "not yet" if cell.state == "waiting" else cell.state,
                duration(cell.seconds) if cell.seconds else "",
                cell.reason or "",
            )
            for cell in self.result.cells
            if cell.name in self.names
        )
        yield Section("", lines=lines, notes=(state_words(self.result),))
