"""Make a bundle's core again from nothing, and compare: byte by byte, then number by number.

The recipe, the seed and what each stage decided are read from the manifest; a clean store makes
sure that nothing is taken from an earlier run. What a stage decided by measuring is not measured
again but decided as it was. Where the inputs lie is said anew (a core knows no place), and their
digests are compared before any work starts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.bundle import write_bundle
from edgecompress.bundle.directory import check_replaced, move_into_place
from edgecompress.bundle.manifest import Manifest, portable
from edgecompress.bundle.packing import opened
from edgecompress.comparison.differences import compare
from edgecompress.comparison.flips import ask, compare_answers
from edgecompress.comparison.side import Side, read_side
from edgecompress.engine.chains import Chain
from edgecompress.engine.opening import open_start
from edgecompress.engine.origin import PLATFORM, find_origin
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import Recipe, build_recipe
from edgecompress.engine.recipe_paths import CORPORA, absolute_paths
from edgecompress.engine.reproduction import Reproduction, ScoreChange
from edgecompress.engine.same_inputs import NOTHING_SAID, Inputs, check_inputs, left_to_the_bundle
from edgecompress.engine.splits import Splits, read_splits
from edgecompress.errors import BundleError, EdgeCompressError, RecipeError
from edgecompress.progress import Reporter, Silent
from edgecompress.provenance import installed, package_digest
from edgecompress.reading import at_home
from edgecompress.runtime import load
from edgecompress.store import Store
from edgecompress.targets.agent.describe import describe
from edgecompress.tasks import lacks_files
from edgecompress.values import Candidate, Example, Json
from edgecompress.writing import replace_file, sweep, temporary, writing
from edgecompress.yamlfile import YamlFile, apply_settings

if TYPE_CHECKING:
    pass

PLACES = ("data.root", "data.train", "data.validation", "data.test", "teacher.model", "model")
"""Settings that say where inputs lie: they change nothing of what the core says of itself."""
LEFT_OUT = ("targets", "fleet", "budget", "minimize", "profile", "observers")
"""What a recipe says of measuring and choosing: both have been done."""
MARKER = "reproduce.txt"
PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>Made again</title>
<p>This bundle was made again by <code>edgecompress reproduce</code>. Nothing was measured: the
measurements lie beside the bundle that it repeats.</p></html>
"""


def reproduce(
    bundle: Path,
    inputs: Inputs = NOTHING_SAID,
    *,
    store: Path | None = None,
    output: Path | None = None,
    threads: int | None = None,
    reporter: Reporter | None = None,
    fetch: Callable[[Sequence[str]], bool] | None = None,
) -> Reproduction:
    """Make the core of `bundle` again and compare it with the one that is there.

    Parameters
    ----------
    bundle : Path
        A bundle's directory or archive; its core is verified first.
    inputs : Inputs
        Where data, teacher and model lie now, and settings laid over the recorded recipe.
    store : Path, optional
        A new or empty folder that keeps what is made, so that an interrupted repetition goes on;
        else a temporary one.
    output : Path, optional
        Where to write the bundle that was made; else it is thrown away.
    threads : int, optional
        How many threads torch computes with; else as many as when the bundle was made, where its
        recipe or its evidence says so.
    reporter : Reporter, optional
    fetch : callable, optional
        Asked whether the models of a hub that the bundle names, and nobody else, may be fetched;
        else they may not.

    Returns
    -------
    Reproduction

    Raises
    ------
    BundleError
        When the bundle is damaged, or was not made by a recipe, or names what may not be fetched.
    DataError
        When an input is missing, or is not the one that the bundle was made from.
    """
    if output is not None:
        check_replaced(output)
    with (
        opened(bundle) as directory,
        writing(output) if output is not None else temporary() as folder,
        temporary() as aside,
    ):
        recorded = replace(read_side(directory), place=str(bundle))
        with _recorded_in(bundle):
            recipe, written = _recipe(recorded.manifest, inputs, aside)
            chain = _chain(recipe, recorded.manifest)
        named = left_to_the_bundle(recipe, inputs)
        if named and not (fetch is not None and fetch(named)):
            listed = " and ".join(map(repr, named))
            raise BundleError(
                f"{bundle} names {listed}, to be fetched from the Hugging Face hub; agree to that "
                "with --yes, or say where it lies with --teacher, --model or --data-root"
            )
        with _recorded_in(bundle):
            check_inputs(recipe, chain, recorded.manifest)
        splits, test = read_splits(recipe)
        threads = threads or recorded.environment.get("compute_threads")
        place = Store(_clean(store, recorded) if store else aside / "store")
        pipeline = Pipeline(
            recipe,
            place,
            splits,
            reporter or Silent(),
            recorded=recorded.manifest.steps,
            threads=threads,
        )
        try:
            candidate = pipeline.run_chain(chain, open_start(pipeline)).candidate
        finally:
            pipeline.close()
        target = folder / "bundle"
        _write(target, recorded.manifest, candidate, pipeline, recipe, written, test)
        made = read_side(target)
        notes = tuple(_notes(recorded.manifest, written, pipeline.threads))
        found = _compared(recorded, made, directory, target, notes, splits, test)
        if output is not None:
            move_into_place(target, output)
        return found


@contextmanager
def _recorded_in(bundle: object) -> Iterator[None]:
    """Say of what is wrong with a recorded recipe whose it is."""
    try:
        yield
    except (BundleError, RecipeError) as error:
        raise BundleError(f"{bundle}: the recorded recipe: {error}") from None


def _recipe(manifest: Manifest, inputs: Inputs, aside: Path) -> tuple[Recipe, Json]:
    """Give the recipe to run, and what the new core says of it."""
    if not manifest.recipe.get("stages") and not manifest.steps:
        raise BundleError("the bundle says nothing of how it was made; only `run` makes one again")
    settings = list(inputs.settings)
    own = [text for text in settings if not _is_place(text.partition("=")[0].strip())]
    written = apply_settings(manifest.recipe, own)
    document = copy.deepcopy(manifest.recipe)
    for key in LEFT_OUT:
        document.pop(key, None)
    if isinstance(document.get("data"), dict) and inputs.data_root is not None:
        document["data"]["root"] = str(at_home(inputs.data_root).absolute())
        if document["data"].get("format") == "datasets":
            for key in ("hub", "revision"):  # the folder stands for what was fetched
                document["data"].pop(key, None)
    if inputs.teacher is not None and isinstance(document.get("teacher"), dict):
        old = document["teacher"].get("model")
        document["teacher"]["model"] = _named(inputs.teacher, old, aside / "teacher")
    if inputs.model is not None:
        document["model"] = _named(inputs.model, document.get("model"), aside / "model")
    document = absolute_paths(apply_settings(document, settings), Path.cwd())
    for key in LEFT_OUT:
        document.pop(key, None)
    return build_recipe(YamlFile(document, None, {})), written


def _is_place(key: str) -> bool:
    files = (".calibration", *(f".{name}" for name in CORPORA))
    return key in PLACES or key.endswith(files) or key.startswith(LEFT_OUT)


def _named(place: str, name: Any, aside: Path) -> str:
    """Give a model's place under the name that the core knows: a link to it, where they differ."""
    path = at_home(place)
    if not path.exists():
        return place  # the id of a hub's model
    if not isinstance(name, str) or path.name == Path(name).name or not path.is_dir():
        return str(path.absolute())
    aside.mkdir()
    link = aside / Path(name).name
    link.symlink_to(path.resolve(), target_is_directory=True)
    return str(link)


def _chain(recipe: Recipe, manifest: Manifest) -> Chain:
    """Find the recipe's chain that gave the recorded steps: its names, and most parameters."""
    best: tuple[int, Chain] | None = None
    teacher = recipe.fields.teacher
    # A model to start from brings its own steps; a teacher's are its import and its fine-tuning.
    before = None if recipe.fields.model or teacher is None else 1 + (teacher.finetune is not None)
    for chain in recipe.chains:
        first = len(manifest.steps) - len(chain)
        tail = manifest.steps[max(first, 0) :]
        if first < 0 or (before is not None and first != before):
            continue
        if [use.name for use in chain] != [step.stage for step in tail]:
            continue
        other = sum(
            portable(use.stage.model_dump(mode="json")) != step.parameters
            for use, step in zip(chain, tail, strict=True)
        )
        if best is None or (other, -len(chain)) < (best[0], -len(best[1])):
            best = (other, chain)
    if best is None:
        steps = ", ".join(step.stage for step in manifest.steps)
        raise BundleError(f"no chain of the recorded recipe has the recorded steps ({steps})")
    return best[1]


def _clean(store: Path, recorded: Side) -> Path:
    """Give a store that holds nothing but earlier tries at this bundle."""
    marker = store / MARKER
    text = f"Made by edgecompress reproduce for the core {recorded.digest}\n"
    if marker.is_file() and marker.read_text(encoding="utf-8") == text:
        return store
    if store.is_dir():
        sweep(store)  # of one that was killed before its marker was there
    if store.exists() and any(store.iterdir()):
        raise EdgeCompressError(
            f"{store} is not empty; to make a bundle again, name a folder that is new with --store"
        )
    replace_file(marker, text)
    return store


def _write(
    target: Path,
    manifest: Manifest,
    candidate: Candidate,
    pipeline: Pipeline,
    recipe: Recipe,
    written: Json,
    test: Sequence[Example],
) -> None:
    splits = pipeline.splits
    counts = {
        "train": len(splits.train),
        "validation": len(splits.validation),
        "test": len(test),
    }
    found = find_origin(recipe, counts, pipeline.teacher, candidate)
    write_bundle(
        target,
        candidate,
        written,
        found.versions,
        report_html=PAGE if manifest.evidence else None,
        inputs=_as_named(found.inputs, manifest.inputs),
        licences={**found.licences, **_stated(manifest)},
        code=found.code,
        platform=found.platform,
        packages=found.packages,
    )


def _as_named(found: Json, recorded: Json) -> Json:
    """Give the inputs under the names that they had: what they hold has been compared."""
    named = copy.deepcopy(found)
    for split, entry in named.get("data", {}).items():
        before = recorded.get("data", {}).get(split, {}).get("files", [])
        for one, old in zip(entry["files"], before, strict=False):
            one["name"] = old["name"]
    return named


def _stated(manifest: Manifest) -> Json:
    """Licences that were said or read when the bundle was made; those of packages are found."""
    return {name: text for name, text in manifest.licences.items() if name != "packages"}


def _notes(manifest: Manifest, written: Json, threads: int | None) -> Iterator[str]:
    """Say what is other than it was, before anyone wonders at bytes that differ."""
    if manifest.code.get("digest") != package_digest():
        was = manifest.code.get("version", "unknown")
        yield f"edgecompress: was version {was} with other source code than this one"
    here = installed("build")
    for name in sorted({*manifest.versions, *here}):
        old, new = manifest.versions.get(name), here.get(name)
        if old != new:
            yield f"{name}: was {old or 'not installed'}, is {new or 'not installed'}"
    facts = describe()
    for name in PLATFORM:
        if name in manifest.platform and manifest.platform[name] != portable(facts[name]):
            yield f"{name}: was {_brief(manifest.platform[name])}, is {_brief(facts[name])}"
    if written != manifest.recipe:
        yield "the recipe is not as it was: --set has changed it"
    if not threads:
        yield "how many threads trained this model is not recorded; --threads N sets the number"


def _brief(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _compared(
    recorded: Side,
    made: Side,
    old: Path,
    new: Path,
    notes: tuple[str, ...],
    splits: Splits,
    test: Sequence[Example],
) -> Reproduction:
    unchanged = tuple(n for n, found in recorded.files.items() if made.files.get(n) == found)
    # Nothing was measured of the new one: numbers beside the old one are no part of this.
    found = compare(replace(recorded, measurements=()), replace(made, place="made again"))
    found = replace(found, remarks=())
    result = Reproduction(found.same_core, notes, found, unchanged)
    answers = [name for name in recorded.files if name not in ("manifest.json", "sbom.cdx.json")]
    a, b = recorded.manifest, made.manifest
    if all(name in unchanged for name in answers) and a.session == b.session:
        return result
    if a.model not in unchanged:
        from edgecompress.quantization.graphs.differences import compare_models

        result = replace(result, model=compare_models(old / a.model, new / b.model))
    if a.task is None or lacks_files(a.task, a.preprocessor):
        return result
    data = {"validation": splits.validation, "test": test}
    if not any(data.values()):
        return result
    predictors = [load(place, threads=1, batch=1, verify=False) for place in (old, new)]
    scores = []
    for split, examples in data.items():
        if not examples:
            continue
        asked = compare_answers(a.task, examples, *(ask(each, examples) for each in predictors))
        if asked.metric and asked.old_score is not None and asked.new_score is not None:
            scores.append(
                ScoreChange(
                    split,
                    asked.metric,
                    asked.old_score,
                    asked.new_score,
                    asked.asked,
                    len(asked.flips),
                )
            )
    return replace(result, scores=tuple(scores))
