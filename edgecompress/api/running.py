"""Running a recipe, or all cells of a matrix, from the model to a deployable directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgecompress.api.arguments import Place, find_recipe, reporting, several
from edgecompress.api.options import as_texts
from edgecompress.api.ran import MatrixCells, MatrixRun, Run
from edgecompress.engine.matrix import Matrix, read_matrix, select
from edgecompress.engine.matrix.run import look, run_matrix
from edgecompress.engine.run import run as run_recipe
from edgecompress.errors import RecipeError
from edgecompress.progress import Reporter
from edgecompress.report.matrix.page import state_words
from edgecompress.report.matrix.values import CellResult, MatrixResult
from edgecompress.report.words import duration
from edgecompress.yamlfile import Settings


def run(
    recipe: Place,
    output: Place,
    *,
    settings: Settings = (),
    deterministic: bool = False,
    only: str | Sequence[str] = (),
    cells: bool = False,
    store: Place | None = None,
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
        The YAML file, or the name of one that is installed ("quickstart").
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
