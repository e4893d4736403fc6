"""All cells of a matrix, one after the other, each by the ordinary run into a folder of its own.

::

    OUT/hau-7/           a cell: what `edgecompress run` writes, without the candidates' files
    OUT/hau-7/cell.json  its state, what time it took, and the key of what it depends on
    OUT/matrix.json, matrix.md, matrix.html   what the finished cells found together

The same command goes on: a cell whose key is the same and that is finished is not run again, one
that was stopped takes what it has made from the store, and one that failed or was undecided is
tried again.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgecompress import __version__
from edgecompress.data import SPLITS
from edgecompress.engine.given_models import check_models, impossible, label_names
from edgecompress.engine.matrix.cells import Matrix, MatrixCell, in_cell, select
from edgecompress.engine.recipe import Recipe
from edgecompress.engine.run import exit_code as exit_code_of_run
from edgecompress.engine.run import observers, run, sections
from edgecompress.engine.run_directory import prepare_output
from edgecompress.engine.splits import read_splits
from edgecompress.errors import DataError, DiskError, EdgeCompressError, RecipeError
from edgecompress.progress import Reporter, Silent
from edgecompress.reading import at_home
from edgecompress.report.document import from_json
from edgecompress.report.matrix.values import CellResult, MatrixResult
from edgecompress.results import RunResult
from edgecompress.store import default_store
from edgecompress.values import Json, directory_digests, file_digest, json_digest
from edgecompress.writing import replace_file, writing_into

NOTE = "cell.json"
SPENT = ("seconds", "cpu_seconds")

Done = Callable[[MatrixResult, CellResult], None]


def run_matrix(
    matrix: Matrix,
    output: Path | str,
    *,
    only: Sequence[str] = (),
    store: Path | str | None = None,
    reporter: Reporter | None = None,
    command: str = "",
    keep: bool = False,
    after: Done | None = None,
) -> MatrixResult:
    """Run the cells that are not finished and write the combined result after each.

    Parameters
    ----------
    matrix : Matrix
    output : Path or str
        Directory to write; new, empty, or an earlier run's.
    only : sequence of str
        Run these cells only (`edgecompress.engine.matrix.select`); the result shows all.
    store : Path or str, optional
        Where results are kept, shared by all cells; see `edgecompress.engine.run.run`.
    reporter : Reporter, optional
    command : str
        The command line, for the report.
    keep : bool
        Whether every cell also writes all its candidates' files.
    after : callable, optional
        Called after each cell with the whole result and that cell's.

    Returns
    -------
    MatrixResult
        A cell that fails is no error: it says why, and the others go on.

    Raises
    ------
    EdgeCompressError
        When the recipe, the data or the output is at fault, or the disk is full.
    """
    chosen = select(matrix, only)
    tell = reporter or Silent()
    folder = prepare_output(Path(output))
    with writing_into(folder):
        keys = check_cells(matrix)
        known = MatrixResult(
            matrix.name,
            matrix.axes,
            matrix.constants,
            tuple(read_cell(cell, folder, keys[cell.name]) for cell in matrix.cells),
            command,
        )
        due = [cell for cell in chosen if _is_due(cell, known)]
        tell.plan(
            [
                f"{cell.name}: {title}"
                for cell in due
                for title in sections(cell.recipe, impossible(cell.recipe))
            ]
        )
        write(folder, known)
        for cell in due:
            place = folder / cell.name
            note = _Note(place / NOTE, keys[cell.name], tell, cell.name)
            found = _run_cell(cell, place, note, store, command, keep)
            known = replace(
                known,
                cells=tuple(found if one.name == cell.name else one for one in known.cells),
            )
            write(folder, known)
            if after:
                after(known, found)
        return known


def check_cells(matrix: Matrix) -> dict[str, str]:
    """Check every cell before hours of work, data files and all; give each cell's key.

    Raises
    ------
    RecipeError, DataError
        With the cell's name.
    """
    inputs = _Inputs()
    return {cell.name: inputs.check(cell) for cell in matrix.cells}


def exit_code(result: MatrixResult, names: Sequence[str] | None = None) -> int:
    """Give the exit code of the cells `names` (of all that were run, where it is None).

    1 when a cell failed; else 4 when one is undecided; else 3 when in one no candidate keeps the
    budget; else 0.
    """
    mine = [cell for cell in result.cells if names is None or cell.name in names]
    if any(cell.state == "failed" for cell in mine):
        return 1
    codes = {exit_code_of_run(cell.result) for cell in mine if cell.result is not None}
    return next((code for code in (4, 3) if code in codes), 0)


def look(matrix: Matrix, output: Path) -> MatrixResult:
    """Give the state of every cell in an output, without running or checking anything."""
    inputs = _Inputs()
    cells = tuple(
        read_cell(cell, at_home(output).absolute(), inputs.key(cell)) for cell in matrix.cells
    )
    return MatrixResult(matrix.name, matrix.axes, matrix.constants, cells)


def read_cell(cell: MatrixCell, folder: Path, key: str) -> CellResult:
    """Read what an earlier run left of a cell; what was made of other inputs does not count."""
    waiting = CellResult(cell.name, cell.values)
    try:
        note: Json = json.loads((folder / cell.name / NOTE).read_text(encoding="utf-8"))
        if note["key"] != key:
            return waiting
        seconds, cpu = float(note["seconds"]), float(note["cpu_seconds"])
        waiting = replace(waiting, seconds=seconds, cpu_seconds=cpu)
        if note["state"] == "failed":
            return replace(waiting, state="failed", reason=str(note["reason"]))
        if note["state"] == "finished":
            text = (folder / cell.name / "results.json").read_text(encoding="utf-8")
            return replace(waiting, state="finished", result=from_json(text))
    except (OSError, ValueError, KeyError, TypeError, DataError):
        pass  # half written or damaged: it is run again, from the store
    return waiting


def write(folder: Path, result: MatrixResult) -> None:
    """Write the combined result; ``matrix.json`` last."""
    from edgecompress.report.html import render_html
    from edgecompress.report.markdown import render_markdown
    from edgecompress.report.matrix.document import to_json
    from edgecompress.report.matrix.page import matrix_page

    page = matrix_page(result)
    replace_file(folder / "matrix.html", render_html(page))
    replace_file(folder / "matrix.md", render_markdown(page))
    replace_file(folder / "matrix.json", to_json(result))


def _is_due(cell: MatrixCell, known: MatrixResult) -> bool:
    """Whether a cell must be run: all but those that are finished and decided."""
    before = next(one for one in known.cells if one.name == cell.name)
    return before.result is None or exit_code_of_run(before.result) == 4


def _run_cell(
    cell: MatrixCell,
    place: Path,
    note: _Note,
    store: Path | str | None,
    command: str,
    keep: bool,
) -> CellResult:
    mine = CellResult(cell.name, cell.values)
    prepare_output(place)
    note.save("running")
    try:
        result: RunResult = run(
            cell.recipe,
            place,
            store=store or default_store(),
            reporter=note,
            command=command,
            keep=keep,
        )
    except Exception as error:  # a cell may run any library: its failure is its own alone
        if isinstance(error, DiskError):
            raise
        expected = isinstance(error, EdgeCompressError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        replace_file(place / "failure.txt", traceback.format_exc())
        note.save("failed", reason)
        return replace(note.timed(mine), state="failed", reason=reason)
    (place / "failure.txt").unlink(missing_ok=True)
    note.save("finished")
    return replace(note.timed(mine), state="finished", result=result)


class _Note:
    """Keeps a cell's ``cell.json`` up to date while its run tells how it goes on.

    It is the run's reporter: whatever ends is a moment to write down the time spent, so that a
    kill loses little of it.
    """

    def __init__(self, file: Path, key: str, tell: Reporter, name: str) -> None:
        self.file, self.key, self.tell, self.name = file, key, tell, name
        self.started = _clocks()
        self.before = dict.fromkeys(SPENT, 0.0)
        try:
            old = json.loads(file.read_text(encoding="utf-8"))
            if old["key"] == key:
                self.before = {name: float(old[name]) for name in SPENT}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there was none

    def spent(self) -> dict[str, float]:
        """Give what was spent on the cell so far, all attempts together."""
        now = _clocks()
        return {
            name: round(self.before[name] + now[name] - self.started[name], 1) for name in SPENT
        }

    def timed(self, cell: CellResult) -> CellResult:
        """Give a cell's result with the time spent."""
        spent = self.spent()
        return replace(cell, seconds=spent["seconds"], cpu_seconds=spent["cpu_seconds"])

    def save(self, state: str, reason: str | None = None) -> None:
        """Write the state down."""
        document = {"key": self.key, "state": state, **self.spent(), "reason": reason}
        replace_file(self.file, json.dumps(document, indent=1) + "\n")

    def plan(self, sections: Sequence[str]) -> None:
        """Say nothing: the matrix has planned all cells together."""

    def section(self, title: str) -> None:
        """Pass on with the cell's name."""
        self.tell.section(f"{self.name}: {title}")

    def begin(self, title: str) -> None:
        """Pass on."""
        self.tell.begin(title)

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Pass on."""
        self.tell.advance(done, total, what)

    def end(self, note: str) -> None:
        """Pass on, and write down the time."""
        self.tell.end(note)
        self.save("running")


def _clocks() -> dict[str, float]:
    """Read the wall clock, and the processor time of this process and those it has ended."""
    return {"seconds": time.monotonic(), "cpu_seconds": sum(os.times()[:4])}


class _Inputs:
    """Checks and digests of what cells read, once for all cells that read the same."""

    def __init__(self) -> None:
        self.labels: dict[str, tuple[str, ...]] = {}
        self.data: dict[str, Json] = {}
        self.folders: dict[str, dict[str, str]] = {}

    def check(self, cell: MatrixCell) -> str:
        """Check all that can be checked before hours of work, and give the cell's key.

        Raises
        ------
        RecipeError, DataError
            With the cell's name.
        """
        recipe = cell.recipe
        try:
            name = f"{recipe.fields.task} {_data_name(recipe)}"
            if name not in self.labels:
                splits, _ = read_splits(recipe)
                self.labels[name] = label_names(recipe.fields.task, splits.train)
            observers(recipe)
            check_models(recipe, self.labels[name])
        except (RecipeError, DataError) as error:
            raise in_cell(error, cell.name) from None
        return self.key(cell)

    def key(self, cell: MatrixCell) -> str:
        """Give the digest of all that a cell's result depends on.

        Of the code its version is part of it, not its bytes: a finished cell is a result to keep.
        """
        fields, data = cell.recipe.fields, cell.recipe.data
        name = _data_name(cell.recipe)
        if data is not None and name not in self.data:
            self.data[name] = {split: data.digest(split) for split in SPLITS}
        models = {fields.model, fields.teacher.model if fields.teacher else None} - {None}
        for model in map(str, models):
            if model in self.folders or not Path(model).exists():
                continue  # a hub id is its own name
            path = Path(model)
            self.folders[model] = (
                directory_digests(path) if path.is_dir() else {path.name: file_digest(path)}
            )
        return json_digest(
            {
                "recipe": cell.recipe.written,
                "data": self.data.get(name),
                "models": [self.folders.get(str(model), {}) for model in sorted(map(str, models))],
                "version": __version__,
            }
        )


def _data_name(recipe: Recipe) -> str:
    return json_digest(recipe.data.model_dump(mode="json")) if recipe.data is not None else ""
