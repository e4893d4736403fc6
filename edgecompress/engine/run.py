"""A whole run: recipe in; ``results.json``, ``report.html``, ``bundle/`` and ``candidates/`` out.

The order is a law: everything is chosen on validation, then test is read once for the rows shown.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edgecompress.bundle.manifest import portable
from edgecompress.choose import choose
from edgecompress.determinism import compute_threads
from edgecompress.engine.chains import Chain, export_chain, lossless_part
from edgecompress.engine.floor import measured_floor
from edgecompress.engine.given_answers import given_answers
from edgecompress.engine.given_models import check_parts, impossible
from edgecompress.engine.observation import descriptions, failure
from edgecompress.engine.opening import open_start
from edgecompress.engine.origin import find_origin
from edgecompress.engine.pipeline import Made, Pipeline
from edgecompress.engine.recipe import Recipe, load_recipe
from edgecompress.engine.run_directory import prepare_output, slug, write_directory
from edgecompress.engine.splits import read_splits
from edgecompress.engine.stopping import Search
from edgecompress.errors import DataError, StageError
from edgecompress.parts import several
from edgecompress.progress import Reporter, Silent
from edgecompress.provenance import candidate_digest
from edgecompress.results import Row, RunResult
from edgecompress.stage import Observer, stage_class
from edgecompress.store import Store, default_store
from edgecompress.validation import validated
from edgecompress.values import Candidate, Example, Json, Measurement, OnnxModel, TorchModel, find
from edgecompress.writing import replace_file, writing_into
from edgecompress.yamlfile import Settings

TEACHER, STOCK, TUNED = "teacher", "onnx-fp32", "onnx-fp32-tuned"


@dataclass(frozen=True, slots=True)
class Observers:
    """The observers of a run."""

    size: Observer
    profile: Observer
    evaluate: Observer
    others: tuple[Observer, ...] = ()


def run(
    recipe: Path | str | Recipe,
    output: Path | str,
    *,
    settings: Settings = (),
    store: Path | str | None = None,
    reporter: Reporter | None = None,
    command: str = "",
    keep: bool = True,
    time_limit_s: float | None = None,
    best_so_far: bool = False,
) -> RunResult:
    """Run a recipe and write its directory.

    Parameters
    ----------
    recipe : Path, str or Recipe
        The YAML file, or a recipe that is loaded already.
    output : Path or str
        Directory to write; new, empty, or an earlier run's.
    settings : mapping of str to object, or sequence of str
        Laid over the recipe, by key or as ``key=value``.
    store : Path or str, optional
        Where results are kept between runs; else ``EDGECOMPRESS_STORE``, else the user's cache.
    reporter : Reporter, optional
        Told how the work goes on.
    command : str
        The command line, for the report.
    keep : bool
        Whether to write every candidate's files; the winner's are in the bundle in any case.
    time_limit_s : float, optional
        Seconds after which no further candidate is tried, once one stands; then it is chosen among
        those that are done, and the others are rows that say so.
    best_so_far : bool
        Whether an interruption ends the search in the same way, and not the run.

    Returns
    -------
    RunResult
        All that was found out; ``winner`` is None when no candidate keeps the budget.

    Raises
    ------
    EdgeCompressError
        When the recipe, the data, the output or the teacher is at fault. A candidate that fails
        is no error: its row says why.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), settings)
    check_parts(loaded)
    folder = prepare_output(Path(output))
    place = Store(Path(store) if store else default_store())
    with writing_into(folder):
        search = Search(time_limit_s, best_so_far=best_so_far)
        return _run(loaded, folder, place, reporter or Silent(), command, keep, search)


def sections(recipe: Recipe, left_out: Container[str]) -> list[str]:
    """Name the parts of a run, for progress; `left_out` are chains that cannot work."""
    names = [name for name in recipe.names if name not in left_out]
    return ["teacher and references", *names, "the winner, stage by stage", "test"]


def observers(recipe: Recipe) -> Observers:
    """Make the run's observers from the recipe."""
    fields, source = recipe.fields.profile, recipe.source
    if "target" in fields:
        raise source.error("name the targets under `targets`", ("profile", "target"))
    size, profile, evaluate = (
        validated(stage_class(name), given, ("profile",), source)
        for name, given in (("size", {}), ("profile", fields), ("evaluate", {}))
    )
    profile.check_inputs()
    for index, one in enumerate(recipe.observers):
        try:
            one.check_inputs()
        except DataError as error:
            raise source.error(str(error), ("observers", index)) from None
    return Observers(size, profile, evaluate, recipe.observers)


def _run(
    recipe: Recipe,
    folder: Path,
    store: Store,
    tell: Reporter,
    command: str,
    keep: bool,
    search: Search,
) -> RunResult:
    store.sweep()
    splits, test = read_splits(recipe)
    watch = observers(recipe)
    pipeline = Pipeline(recipe, store, splits, tell, search=search)
    try:
        return _run_pipeline(pipeline, watch, test, folder, command, keep)
    finally:
        pipeline.close()


def _run_pipeline(
    pipeline: Pipeline,
    watch: Observers,
    test: tuple[Example, ...],
    folder: Path,
    command: str,
    keep: bool,
) -> RunResult:
    from edgecompress.targets.machine import environment

    recipe, splits, tell = pipeline.recipe, pipeline.splits, pipeline.reporter
    started, clock = datetime.now(UTC), time.monotonic()
    left_out = impossible(recipe)
    tell.plan(sections(recipe, left_out))
    tell.section("teacher and references")
    known = recipe.data.facts() if recipe.data is not None else {}
    for what, said in known.items():
        tell.begin(what)
        tell.end(said)
    for shared in splits.overlaps:
        tell.begin(f"{shared.within} and {shared.of}")
        tell.end(shared.words)
    for told in splits.quoted:
        tell.begin(f"corpora and {told.of}")
        tell.end(told.words)
    start = open_start(pipeline)
    if pipeline.teacher is not None:
        fp32 = pipeline.run_chain(export_chain(recipe.fields.task), pipeline.teacher)
        pipeline.reference = fp32.candidate
    elif isinstance(start.model, OnnxModel):
        pipeline.reference = start

    rows: list[Row] = []
    made: dict[str, Made] = {}
    references = {TEACHER: pipeline.teacher, STOCK: pipeline.reference}
    for name, candidate in references.items():
        if candidate is not None:
            row = Row(name, "reference", steps=candidate.steps)
            made[name] = Made((candidate,))
            rows.append(_measured(row, candidate, pipeline, watch))
    standing = measured_floor(pipeline, start, splits.validation, "validation")
    if standing is not None:
        rows.append(standing.row)
    search = pipeline.search
    for name, chain in zip(recipe.names, recipe.chains, strict=True):
        row = Row(name, "candidate", chain=tuple(use.label for use in chain))
        if name in left_out:
            rows.append(replace(row, error=f"left out: {left_out[name]}", tried=False))
            continue
        if not search.goes_on():
            rows.append(search.left_out(row))
            continue
        tell.section(name)
        try:
            made[name] = pipeline.run_chain(chain, start)
            found = made[name].candidate
            rows.append(_measured(replace(row, steps=found.steps), found, pipeline, watch))
            search.stands = True
        except KeyboardInterrupt as stop:
            made.pop(name, None)
            if not search.ended_by(stop):
                raise
            tell.end(f"{search.reason}; the best of what is done is chosen")
            rows.append(search.left_out(row))
        except StageError as error:
            made.pop(name, None)
            tell.end(f"failed: {error}")
            rows.append(replace(row, error=str(error)))
            replace_file(folder / "failures" / f"{slug(name)}.txt", traceback.format_exc())

    primary = _primary(recipe)
    floor = standing.row.name if standing is not None else None
    judged, winner, nearest, verdict = choose(
        rows, recipe.budget, recipe.fields.minimize, primary, floor
    )
    shown = winner or nearest
    tell.section("the winner, stage by stage" if winner else "the nearest, stage by stage")
    if shown and pipeline.teacher is not None:
        chain = recipe.chains[recipe.names.index(shown)]
        judged = (*judged, _tuned_row(pipeline, watch, chain, made, shown))
    if shown:
        judged = tuple(
            replace(row, stages=_stage_effects(pipeline, watch, made[shown], primary))
            if row.name == shown
            else row
            for row in judged
        )
    tell.section("test")
    judged = tuple(_with_test(row, made, test, pipeline) for row in judged)
    if standing is not None and (tested := measured_floor(pipeline, start, test, "test")):
        judged = tuple(
            replace(row, measurements=row.measurements + tested.row.measurements)
            if row.name == floor
            else row
            for row in judged
        )
    answers, flips = (
        given_answers(pipeline, shown, made[shown].candidate, test) if shown else ({}, None)
    )
    result = RunResult(
        name=recipe.fields.name,
        task=recipe.fields.task,
        recipe=portable(recipe.document),
        rows=tuple(sorted(judged, key=lambda row: row.kind == "candidate")),
        winner=winner,
        verdict=verdict,
        minimize=recipe.fields.minimize,
        budget=recipe.budget,
        environment={
            **environment(),
            "compute_threads": compute_threads(recipe.fields.threads),
            "targets": descriptions(pipeline.targets),
        },
        data={
            "splits": {
                "train": len(splits.train),
                "validation": len(splits.validation),
                "test": len(test),
            },
            "digests": _digests(pipeline, recipe),
            **known,
            **({"floor": standing.note} if standing is not None else {}),
            "overlaps": [asdict(one) for one in splits.overlaps],
            **({"quoted": [asdict(one) for one in splits.quoted]} if splits.quoted else {}),
        },
        command=command,
        floor=floor,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 1),
        answers=answers,
    )
    origin = None
    if winner:
        counts = result.data["splits"]
        origin = find_origin(recipe, counts, pipeline.teacher, made[winner].candidate)
    write_directory(
        folder, result, made, tell, origin, keep=keep, flips=flips, observers=watch.others
    )
    return result


def _digests(pipeline: Pipeline, recipe: Recipe) -> dict[str, str]:
    """Digests of everything that came from outside: the splits, and the teacher as imported."""
    found = dict(pipeline.splits.digests)
    if recipe.data is not None:
        found["test"] = recipe.data.digest("test")
    if pipeline.teacher is not None:
        found["teacher"] = candidate_digest(pipeline.teacher)
    return found


def _primary(recipe: Recipe) -> str | None:
    from edgecompress.tasks import task

    named = recipe.fields.task and recipe.data
    return task(str(recipe.fields.task)).metrics[0].name if named else None


def _measured(row: Row, candidate: Candidate, pipeline: Pipeline, watch: Observers) -> Row:
    """Add all that is measured on validation."""
    found = pipeline.observe(watch.size, candidate) + pipeline.observe(watch.profile, candidate)
    if pipeline.splits.validation:
        found += pipeline.observe(watch.evaluate, candidate)
    for other in watch.others:
        if other.takes(candidate):
            found += _other(other, candidate, pipeline)
    return replace(row, measurements=row.measurements + found)


def _other(observer: Observer, candidate: Candidate, pipeline: Pipeline) -> tuple[Measurement, ...]:
    """Measure what the recipe names beside; where that fails, the reason stands in its place."""
    name = observer.stage_name()
    pipeline.reporter.begin(name)
    try:
        found = pipeline.observe(observer, candidate)
    except StageError as error:
        pipeline.reporter.end(f"failed: {error}")
        return (failure(name, "local", str(error)),)
    pipeline.reporter.end(f"{len(found)} measured")
    return found


def _tuned_row(
    pipeline: Pipeline, watch: Observers, chain: Chain, made: dict[str, Made], shown: str
) -> Row:
    """Measure the fp32 export with the winner's graph and session options: a fair baseline."""
    row = Row(TUNED, "reference")
    try:
        start = pipeline.reference
        if start is None:
            return replace(row, error="there is no fp32 export")
        found = pipeline.run_chain(lossless_part(chain), start).candidate
        found = _with_session_of(found, made[shown].candidate.model)
        made[TUNED] = Made((found,))
        return _measured(replace(row, steps=found.steps), found, pipeline, watch)
    except StageError as error:
        pipeline.reporter.end(f"failed: {error}")
        return replace(row, error=str(error))


def _with_session_of(candidate: Candidate, model: OnnxModel | TorchModel) -> Candidate:
    """Give an ONNX candidate the session settings of another ONNX model."""
    if isinstance(candidate.model, OnnxModel) and isinstance(model, OnnxModel):
        return replace(candidate, model=replace(candidate.model, session=model.session))
    return candidate


def _stage_effects(
    pipeline: Pipeline, watch: Observers, made: Made, primary: str | None
) -> tuple[Json, ...]:
    """Say what each stage of the winner's chain changed: size, accuracy and latency."""
    effects: list[Json] = []
    for candidate in made.path:
        # A PyTorch model on the way is not deployed: its latency would only cost time.
        stage = candidate.steps[-1].stage if candidate.steps else "model"
        found = pipeline.observe(watch.size, candidate)
        whole = not several(candidate)  # parts answer nothing before they are joined
        if isinstance(candidate.model, OnnxModel) and whole:
            found += pipeline.observe(watch.profile, candidate, stage)
        if pipeline.splits.validation and whole:
            found += pipeline.observe(watch.evaluate, candidate, stage)
        entry: Json = {"stage": stage}
        entry["seconds"] = candidate.steps[-1].seconds if candidate.steps else 0.0
        for metric in ("size", "latency_p50", "speedup", primary):
            value = find(found, metric) if metric else None
            if value is not None and not value.invalid:
                entry[value.metric] = value.value
        effects.append(entry)
    return tuple(effects)


def _with_test(row: Row, made: dict[str, Made], test: Sequence[Example], pipeline: Pipeline) -> Row:
    """Add the test split's accuracy to a row: read here, after the choice, and nowhere else."""
    if row.name not in made or not test:
        return row
    found = pipeline.observe_test(made[row.name].candidate, test, row.name)
    return replace(row, measurements=row.measurements + found)


def exit_code(result: RunResult) -> int:
    """0 when a winner keeps the budget, 3 when none does, 4 when it is undecided."""
    if result.winner:
        return 0
    return 4 if result.verdict.state == "undecided" else 3
