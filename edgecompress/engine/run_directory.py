"""The directory that a run writes: reports, bundle and candidates, each replaced as a whole."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from edgecompress.engine.origin import Origin
from edgecompress.engine.pipeline import Made
from edgecompress.errors import EdgeCompressError
from edgecompress.onnx_files import onnx_model_files
from edgecompress.progress import Reporter
from edgecompress.reading import at_home
from edgecompress.report.answers import Flips
from edgecompress.results import RunResult
from edgecompress.stage import Observer
from edgecompress.values import Candidate, OnnxModel
from edgecompress.writing import private, put, replace_file, sweep

MARKER = ".edgecompress-run"


def prepare_output(folder: Path) -> Path:
    """Make the run's directory; refuse one that holds something else, or cannot be written."""
    folder = at_home(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MARKER).exists():
            sweep(folder)  # what killed commands left is nothing to be kept
            if any(folder.iterdir()):
                raise EdgeCompressError(f"{folder} is not empty and not a run's; name another -o")
            (folder / MARKER).write_text("Made by edgecompress run; it may write here again.\n")
    except OSError as error:
        raise EdgeCompressError(
            f"the output {folder} cannot be written ({error.strerror}); name another -o"
        ) from None
    return folder


def write_directory(
    folder: Path,
    result: RunResult,
    made: dict[str, Made],
    tell: Reporter,
    origin: Origin | None = None,
    *,
    keep: bool = True,
    flips: Flips | None = None,
    observers: Sequence[Observer] = (),
) -> None:
    """Write candidates (where `keep`), bundle, reports and, last, ``results.json``.

    `origin` says where the winner comes from; None where there is no winner. `flips` are examples
    of the data: they stand in the directory's own page, and not in the bundle, which is given away.
    """
    from edgecompress.bundle import write_bundle
    from edgecompress.report.document import measurements_json, to_json
    from edgecompress.report.html import render_html
    from edgecompress.report.markdown import render_markdown
    from edgecompress.report.run_page import run_page

    tell.begin("report and bundle")
    with private(folder, "-o") as aside:
        for row in result.rows:
            if keep and row.kind == "candidate" and row.name in made:
                target = aside / "new" / slug(row.name)
                export_candidate(made[row.name].candidate, target)
                text = measurements_json(row.measurements)
                (target / "measurements.json").write_text(text, encoding="utf-8")
        if (aside / "new").exists():
            put(aside / "new", folder / "candidates")
        elif (folder / "candidates").exists():
            (folder / "candidates").rename(aside / "candidates")
        _write_observed(aside / "told", result, observers)
        if (aside / "told").exists():
            put(aside / "told", folder / "observed")
        elif (folder / "observed").exists():
            (folder / "observed").rename(aside / "observed")
        if not result.winner and (folder / "bundle").exists():
            (folder / "bundle").rename(aside / "bundle")
    if result.winner:
        found = origin or Origin(recipe=result.recipe)
        write_bundle(
            folder / "bundle",
            made[result.winner].candidate,
            found.recipe,
            found.versions,
            result,
            render_html(run_page(result)),
            inputs=found.inputs,
            licences=found.licences,
            code=found.code,
            platform=found.platform,
            packages=found.packages,
        )
    page = run_page(result, flips)
    replace_file(folder / "report.html", render_html(page))
    replace_file(folder / "report.md", render_markdown(page))
    replace_file(folder / "results.json", to_json(result))
    tell.end(f"written to {folder}")


def _write_observed(place: Path, result: RunResult, observers: Sequence[Observer]) -> None:
    """Write what the recipe's own observers tell of each model, into a folder of its name."""
    for observer, row in itertools.product(observers, result.rows):
        found = [one for one in row.measurements if one.metric in observer.measures]
        for name, text in (observer.files(row.name, found) if found else {}).items():
            replace_file(place / slug(row.name) / name, text)


def export_candidate(candidate: Candidate, target: Path) -> None:
    """Copy a candidate's files out of the store into `target`."""
    target.mkdir(parents=True)
    model = candidate.model
    if isinstance(model, OnnxModel):
        for name, part in model.graphs.items():
            folder = target / "model" / (name if model.parts else "")
            for file in onnx_model_files(part.path):
                place = folder / file.relative_to(part.directory)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
    else:
        shutil.copytree(model.directory, target / "model")
    if candidate.preprocessor:
        shutil.copytree(candidate.preprocessor, target / "preprocessor")
    candidate.save(target)


def slug(name: str) -> str:
    """Make a file name of a row's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "candidate"
