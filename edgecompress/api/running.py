"""Running a recipe, or all cells of a matrix, from the model to a deployable directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.arguments import StrPath, find_recipe, reporting, several
from edgecompress.api.options import as_texts
from edgecompress.api.paged import Paged
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.matrix import Matrix, read_matrix, select
from edgecompress.engine.matrix.run import exit_code as exit_code_of_matrix
from edgecompress.engine.matrix.run import look, run_matrix
from edgecompress.engine.run import exit_code as exit_code_of_run
from edgecompress.engine.run import run as run_recipe
from edgecompress.errors import RecipeError
from edgecompress.progress import Reporter
from edgecompress.report.blocks import Page
from edgecompress.report.matrix.page import matrix_page, state_words
from edgecompress.report.matrix.values import CellResult, MatrixResult
from edgecompress.report.run_page import run_page
from edgecompress.report.words import duration
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.yamlfile import Settings


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


def run(
    recipe: StrPath,
    output: StrPath,
    *,
    settings: Settings = (),
    deterministic: bool = False,
    only: str | Sequence[str] = (),
    cells: bool = False,
    store: StrPath | None = None,
    progress: bool | Reporter = True,
) -> Run | MatrixRun | MatrixCells:
    """Run `recipe`: compress, measure, choose, bundle and report.

    Exit code 0: a winner keeps the budget; 3: no candidate does; 4: undecided, because a
    measurement is missing or invalid. What is finished is kept, and the same command goes on.

    A recipe with a `matrix:` is run once per cell, into OUTPUT/CELL, and all cells are shown
    together in OUTPUT/matrix.html; exit code 1: a cell failed.

    Parameters
    ----------
    recipe : path or str
        A YAML file, or the name of a recipe that is installed, such as "quickstart".
    output : path
        Directory to write: results.json, report.html, report.md, bundle/, candidates/.
    settings : mapping of str to object, optional
        Set any field of the recipe, such as data.root=DIR or stages.distil.epochs=2.
    deterministic : bool
        Train with one thread (field threads=1), so that the bytes are the same on machines with any
        number of cores.
    only : str or sequence of str
        Of a recipe with a matrix, run these cells only, such as language=hau,seed=7 (values of one
        axis are alternatives).
    cells : bool
        List the matrix's cells and how far each is; run nothing.
    store : path, optional
        Where results are kept between runs; the user's cache folder when left out.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Returns
    -------
    Run, MatrixRun or MatrixCells
        Of a recipe, of one with a matrix, and with `cells`.

    Raises
    ------
    EdgeCompressError
        When the recipe, the data, the output or the teacher is at fault. A candidate or a cell
        that fails is no error: its row says why.
    """
    file, folder, place = find_recipe(recipe), Path(output), Path(store) if store else None
    settings = _settings(settings, deterministic)
    words = ["edgecompress", "run", os.fspath(recipe)]
    words += [word for text in as_texts(settings) for word in ("--set", text)]
    command = shlex.join([*words, "-o", os.fspath(output)])
    matrix = read_matrix(file, settings)
    chosen = several(only)
    if matrix is not None and cells:
        return _listed(matrix, folder, chosen)
    if matrix is None and (chosen or cells):
        option = "--only" if chosen else "--cells"
        raise RecipeError(f"{option} is for a recipe with a matrix", file=file)
    with reporting(progress) as reporter:
        if matrix is None:
            found = run_recipe(
                file, folder, settings=settings, store=place, reporter=reporter, command=command
            )
            return Run(found, folder)
        names = tuple(cell.name for cell in select(matrix, chosen))
        result = run_matrix(
            matrix,
            folder,
            only=chosen,
            store=place,
            reporter=reporter,
            command=command,
            after=_teller(reporter),
        )
    return MatrixRun(result, folder, names)


def _settings(settings: Settings, deterministic: bool) -> Settings:
    if not deterministic:
        return settings
    if isinstance(settings, Mapping):
        return {**settings, "threads": 1}
    return (*settings, "threads=1")


def _teller(reporter: Reporter) -> Callable[[MatrixResult, CellResult], None] | None:
    """Give what says at a terminal, after each cell, how far the matrix is."""
    console = getattr(reporter, "console", None)
    if console is None:
        return None

    def tell(known: MatrixResult, cell: CellResult) -> None:
        text = f"{cell.name} {cell.state} after {duration(cell.seconds)}"
        console.print(text, style="bold", markup=False)
        if cell.reason:
            console.print(f"  {cell.reason}", markup=False)
        console.print(f"  {state_words(known)}", markup=False)

    return tell


def _listed(matrix: Matrix, output: Path, only: Sequence[str]) -> MatrixCells:
    chosen = {cell.name for cell in select(matrix, only)}
    return MatrixCells(look(matrix, output), tuple(sorted(chosen)))
