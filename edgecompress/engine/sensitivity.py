"""What `edgecompress sensitivity` does: choose inputs, measure through the store, tell, write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import Recipe
from edgecompress.engine.splits import read_splits
from edgecompress.errors import DataError, EdgeCompressError, StageError
from edgecompress.onnx_folders import onnx_in_folder
from edgecompress.progress import Reporter
from edgecompress.store import Store, default_store
from edgecompress.texts import label_of, tags_of
from edgecompress.values import Candidate, Json, OnnxModel, json_digest
from edgecompress.writing import replace_file

if TYPE_CHECKING:
    from edgecompress.models.outputs import Samples
    from edgecompress.quantization.plan.scheme import Scheme

MODULE = "edgecompress.quantization.search.sensitivity"
MOST_MADE = 256
"""Made-up inputs are all alike: more of them say no more, and all are held at once."""
MOST_BYTES = 2**28
LENGTHS = 6  # made-up inputs have 4, 8, … 24 tokens


@dataclass(frozen=True)
class Question:
    """What is asked: the options of the command.

    Attributes
    ----------
    samples : int
        Validation examples, or made-up inputs.
    data : Path or None
        Samples of any kind that `edgecompress quantize` calibrates with, in place of them.
    preprocessor : Path or None
        Of `data`, where it is texts or images.
    activations : {"dynamic", "static"}
    parts : tuple of str
    layers : tuple of str
    timed : bool
    scheme : dict
        Fields of `Scheme` that are set.
    """

    samples: int
    data: Path | None
    preprocessor: Path | None
    activations: str
    parts: tuple[str, ...]
    layers: tuple[str, ...]
    timed: bool
    scheme: Json


def open_model(pipeline: Pipeline) -> tuple[Candidate, OnnxModel]:
    """Open the recipe's model, which must be an ONNX file.

    Raises
    ------
    DataError
        When it is a PyTorch model.
    """
    start = pipeline.open_start()
    if not isinstance(start.model, OnnxModel):
        raise DataError(
            "sensitivity takes an ONNX model; `edgecompress export` makes one of a PyTorch model"
        )
    if start.model.parts:
        files = ", ".join(str(part.path) for part in start.model.graphs.values())
        raise DataError(f"sensitivity takes one graph; name one of {files}")
    return start, start.model


def find_samples(candidate: Candidate, pipeline: Pipeline, ask: Question) -> tuple[Samples, str]:
    """Give what models are compared on, and say what it is."""
    from edgecompress.data.sample import stratified_sample
    from edgecompress.models.graph import signature
    from edgecompress.models.inputs import encode_rows, onnx_model, typed_feed
    from edgecompress.models.outputs import Samples
    from edgecompress.models.synthetic import made_feeds

    model = onnx_model(candidate)
    if ask.data is not None:
        from edgecompress.models.samples import open_samples

        given = open_samples(ask.data, signature(model), ask.preprocessor or candidate.preprocessor)
        feeds = tuple(given.feeds(ask.samples))
        more = " (all that there are)" if len(feeds) < ask.samples else ""
        return Samples(feeds), f"{len(feeds)} samples of {ask.data.name}{more}"
    specs, examples = signature(model), pipeline.splits.validation
    places = stratified_sample(examples, ask.samples, pipeline.recipe.fields.seed)
    chosen = tuple(examples[place] for place in places)
    rows = encode_rows(candidate, chosen)
    if rows is None:
        if examples:
            raise DataError(
                "the model has no task or tokenizer, so that examples cannot be encoded for it; "
                "give a candidate's or a bundle's directory, or --data PATH"
            )
        (one,) = made_feeds(model, [(1, 4 * LENGTHS)])
        size = max(1, sum(array.nbytes for array in one.values()))
        count = max(1, min(ask.samples, MOST_MADE, MOST_BYTES // size))
        made = made_feeds(model, ((1, 4 + 4 * (number % LENGTHS)) for number in range(count)))
        more = f" (no more are made, of {ask.samples} asked for)" if count < ask.samples else ""
        return Samples(tuple(made)), f"{count} made-up inputs{more}"
    feeds = tuple(typed_feed(rows, [row], specs) for row in range(len(rows.lengths)))
    labelled = all(tags_of(example) or label_of(example) for example in chosen)
    known = chosen if labelled or not rows.task.labelled else ()
    said = f"{len(chosen)} of {len(examples)} validation examples"
    return Samples(feeds, rows, known, candidate.labels), said


def measured(pipeline: Pipeline, ask: Question) -> Json:
    """Measure a model's sensitivity, or take from the store what was measured before."""
    from edgecompress.models.samples import samples_digest
    from edgecompress.provenance import candidate_digest, code_digest, library_versions
    from edgecompress.quantization.graphs.opset import with_opset
    from edgecompress.quantization.plan.scheme import LEAST_OPSET
    from edgecompress.quantization.search.sensitivity import blame, check_float, culprits, measure

    candidate, model = open_model(pipeline)
    check_float(model)
    samples, said = find_samples(candidate, pipeline, ask)
    if not samples.feeds:
        raise DataError("there is no sample to measure on; name validation data or --data")
    key = json_digest(
        {
            "kind": "sensitivity",
            "model": candidate_digest(candidate),
            "data": dict(pipeline.splits.digests),
            "seed": pipeline.recipe.fields.seed,
            "inputs": samples_digest(ask.data, ask.preprocessor) if ask.data else None,
            "samples": ask.samples,
            "ask": [ask.activations, ask.parts, ask.layers, ask.timed, ask.scheme],
            "code": [code_digest(MODULE), code_digest(__name__)],
            "libraries": library_versions(MODULE),
        }
    )

    def build(folder: Path, scratch: Path) -> None:
        newer = with_opset(model, LEAST_OPSET[ask.activations], scratch / "upgraded")[0]
        scheme = _scheme(ask, candidate, newer, samples, pipeline, scratch)
        items, facts = measure(
            newer,
            samples,
            scheme,
            scratch / "parts",
            parts=ask.parts,  # type: ignore[arg-type]
            only=ask.layers,
            progress=pipeline.reporter.advance,
        )
        if ask.timed:
            times = _times(candidate, newer, scheme, pipeline, folder)
            items = [
                replace(item, saves_ms=times.get(item.layer)) if item.what == "both" else item
                for item in items
            ]
        worst = culprits(items)
        found = {
            "model": _title(pipeline),
            "about": f"Measured on {said}; inputs of layers rounded to {ask.activations} ranges.",
            "says": _say(worst, [blame(one, items) for one in worst]),
            **facts,
            "culprits": [one.layer for one in worst],
            "items": [item.to_json() for item in items],
        }
        (folder / "sensitivity.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    pipeline.reporter.begin(f"sensitivity of {_title(pipeline)}")
    folder = obtained(pipeline, key, build)
    found = dict(json.loads((folder / "sensitivity.json").read_text(encoding="utf-8")))
    pipeline.reporter.end(f"{len(found['items'])} errors measured")
    return found


def compared(pipeline: Pipeline, other: Path, ask: Question) -> Json:
    """Compare a model with its quantized form, tensor by tensor."""
    from edgecompress.models.samples import samples_digest
    from edgecompress.provenance import candidate_digest, code_digest
    from edgecompress.quantization.prove.layer_errors import tensor_errors, worst_step

    candidate, model = open_model(pipeline)
    second = _other(other)
    samples, said = find_samples(candidate, pipeline, ask)
    module = "edgecompress.quantization.prove.layer_errors"
    key = json_digest(
        {
            "kind": "tensor errors",
            "models": [candidate_digest(candidate), candidate_digest(Candidate(second))],
            "data": dict(pipeline.splits.digests),
            "seed": pipeline.recipe.fields.seed,
            "inputs": samples_digest(ask.data, ask.preprocessor) if ask.data else None,
            "samples": ask.samples,
            "code": [code_digest(module), code_digest(__name__)],
        }
    )

    def build(folder: Path, scratch: Path) -> None:
        progress = pipeline.reporter.advance
        errors = tensor_errors(model, second, samples.feeds, scratch, progress=progress)
        step = worst_step(errors)
        says = "No tensor differs."
        if step is not None:
            says = f"It falls most at {step.tensor} ({step.op}): {step.snr_db:.1f} dB there"
            says += f", {errors[-1].snr_db:.1f} dB at the end."
        found = {
            "model": _title(pipeline),
            "other": other.name,
            "about": f"Measured on {said}, without graph optimizations.",
            "says": says,
            "tensors": [one.to_json() for one in errors],
        }
        (folder / "sensitivity.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    pipeline.reporter.begin(f"comparing {_title(pipeline)} with {other.name}")
    folder = obtained(pipeline, key, build)
    found = dict(json.loads((folder / "sensitivity.json").read_text(encoding="utf-8")))
    pipeline.reporter.end(f"{len(found['tensors'])} tensors compared")
    return found


def obtained(pipeline: Pipeline, key: str, build: Callable[[Path, Path], None]) -> Path:
    """Take a result from the store, or let `build` make it; errors name no file of the store."""
    from edgecompress.store import in_words

    try:
        return pipeline.store.obtain(key, build)
    except StageError as error:
        raise StageError(in_words(str(error), pipeline.store.root)) from error


def _other(path: Path) -> OnnxModel:
    if (path / "candidate.json").is_file():
        found = Candidate.load(path).model
        if isinstance(found, OnnxModel):
            return found
    if (path / "manifest.json").is_file():
        from edgecompress.bundle import load_bundle

        held = load_bundle(path).model
        if isinstance(held, OnnxModel):
            return held
    graph = path if path.is_file() else onnx_in_folder(path)
    if graph is not None:
        return OnnxModel(graph)
    raise DataError("--compare takes an ONNX file, a candidate or a bundle", file=path)


def _title(pipeline: Pipeline) -> str:
    return Path(str(pipeline.recipe.fields.model)).name


def _scheme(
    ask: Question,
    candidate: Candidate,
    model: OnnxModel,
    samples: Samples,
    pipeline: Pipeline,
    scratch: Path,
) -> Scheme:
    """Give types and, for static, ranges: of training examples, else of the samples."""
    from edgecompress.data.calibration import CalibrationSet
    from edgecompress.models.graph import signature
    from edgecompress.models.inputs import encode_rows, typed_feed
    from edgecompress.models.storage import read_model
    from edgecompress.quantization.observe.histograms import collect
    from edgecompress.quantization.observe.observing import observing
    from edgecompress.quantization.observe.ranges import find_ranges, unfit_tensors
    from edgecompress.quantization.plan.checks import linear_inputs
    from edgecompress.quantization.plan.scheme import Scheme

    scheme = Scheme(**ask.scheme)
    if ask.activations == "dynamic":
        return scheme
    feeds, train = list(samples.feeds), pipeline.splits.train
    if train and ask.data is None:
        chosen = CalibrationSet(name="random").select(train, pipeline.recipe.fields.seed)
        rows = encode_rows(candidate, chosen)
        if rows is not None:
            specs = signature(model)
            feeds = [typed_feed(rows, [row], specs) for row in range(len(rows.lengths))]
    names = linear_inputs(read_model(model.path))
    with observing(model, names, scratch / "observed") as observed:
        seen = collect(observed, names, feeds, state=scratch / "seen.npz")
    return replace(scheme, ranges=find_ranges(seen), unfit=unfit_tensors(seen))


def _times(
    candidate: Candidate, model: OnnxModel, scheme: Scheme, pipeline: Pipeline, folder: Path
) -> dict[str, float]:
    """Measure what each layer's int8 saves, in ms: whole models, interleaved."""
    from edgecompress.models.storage import read_model
    from edgecompress.quantization.search.mixed import starting_point, write_mixed
    from edgecompress.quantization.search.search import layer_groups
    from edgecompress.quantization.search.units import find_units
    from edgecompress.targets.measure import time_interleaved
    from edgecompress.values import find

    units = [unit for unit in find_units(read_model(model.path)) if not unit.is_table]
    weight = {unit.name: unit.values for unit in units}
    start = starting_point(
        find_units(read_model(model.path)), "static" if scheme.ranges else "dynamic"
    )
    found: dict[str, float] = {}
    groups = layer_groups(units)
    for done, names in enumerate(groups):
        pipeline.reporter.advance(done, len(groups), "timing layers")
        models = []
        for number, assignment in enumerate((start, start.put(names, "fp32"))):
            path = folder / "timed" / str(number) / "model.onnx"
            made, _ = write_mixed(model, assignment, scheme, scheme.ranges or {}, path)
            models.append(replace(candidate, model=made))
        int8, fp32 = (
            find(each, "latency_p50")
            for each in time_interleaved(models, pipeline.splits.validation)
        )
        if int8 is not None and fp32 is not None:
            total = sum(weight[name] for name in names)
            gain = fp32.value - int8.value
            found |= {name: gain * weight[name] / total for name in names}
        shutil.rmtree(folder / "timed")
    return found


def _say(worst: Sequence[Any], blamed: Sequence[str]) -> str:
    if not worst:
        return "No layer stands out: none costs ten times as much as the median layer."
    said = []
    for item, tensor in zip(worst, blamed, strict=True):
        because = f", mostly by its {tensor}" if tensor else ""
        said.append(f"{item.layer} (error {item.cost.error:.3g}{because})")
    return "Culprits: " + "; ".join(said) + "."


def sensitivity(
    recipe: Recipe, ask: Question, other: Path | None, store: Path | None, reporter: Reporter
) -> Json:
    """Measure the sensitivity of a recipe's model, or compare it with its quantized form `other`.

    Raises
    ------
    EdgeCompressError
        When the model or the data is at fault.
    """
    place = Store(store or default_store())
    place.sweep()
    pipeline = Pipeline(recipe, place, read_splits(recipe)[0], reporter)
    try:
        return measured(pipeline, ask) if other is None else compared(pipeline, other, ask)
    finally:
        pipeline.close()


def write_files(document: Json, output: Path) -> None:
    """Write ``sensitivity.json`` and ``sensitivity.html`` into a folder.

    Raises
    ------
    EdgeCompressError
        When the folder cannot be written.
    """
    from edgecompress.report.html import render_html
    from edgecompress.report.sensitivity import sensitivity_page

    try:
        output.mkdir(parents=True, exist_ok=True)
        files: dict[str, Callable[[], str]] = {
            "sensitivity.json": lambda: json.dumps(document, indent=1) + "\n",
            "sensitivity.html": lambda: render_html(sensitivity_page(document)),
        }
        for name, make in files.items():
            replace_file(output / name, make())
    except OSError as error:
        raise EdgeCompressError(f"{output} cannot be written ({error.strerror})") from None
