"""``sensitivity``: what quantizing each layer of a model costs, or where its int8 form errs.

Each part is rounded alone while all others stay fp32, and the outputs are compared with those of
the fp32 model on the same samples.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import DataError
from edgecompress.onnx_folders import onnx_in_folder
from edgecompress.reading import at_home
from edgecompress.stage import Context, Kind, Observer
from edgecompress.stages._fields.inputs import InputFiles
from edgecompress.values import Candidate, Json, Measurement, OnnxModel, find

if TYPE_CHECKING:
    from edgecompress.models.outputs import ComparedSamples
    from edgecompress.quantization.plan.scheme import Scheme
    from edgecompress.quantization.search.sensitivity import Item

PARTS: Mapping[str, tuple[Any, ...]] = {
    "all": ("both", "weight", "activation", "int8", "int4"),
    "layers": ("both", "int8"),
    "weights": ("weight", "int8", "int4"),
    "activations": ("activation",),
}
"""What is rounded, by the name that a person gives."""
MOST_MADE = 256
"""Made-up inputs are all alike: more of them say no more, and all are held at once."""
MOST_BYTES = 2**28
LENGTHS = 6  # made-up inputs have 4, 8, … 24 tokens


class Sensitivity(InputFiles, Observer):
    """Measure ``output_error`` of each part of an fp32 model, or ``signal_to_noise`` of tensors."""

    by_part: ClassVar[bool] = False
    measures: ClassVar[tuple[str, ...]] = ("output_error", "signal_to_noise")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)

    samples: int = Field(default=64, ge=1)
    """How many validation examples, of `inputs` or of made-up inputs."""
    parts: Literal["all", "layers", "weights", "activations"] = "all"
    """Whole layers only, weights only, inputs only, or everything."""
    layers: tuple[str, ...] = ()
    """Measure these layers or weights only."""
    activations: Literal["dynamic", "static"] = "dynamic"
    """How inputs of layers get their ranges."""
    reduce_range: bool = False
    """Weights in 7 bits: x86 without VNNI."""
    per_channel: bool = True
    """One scale for each output of a weight; else one for a whole weight."""
    time: bool = False
    """Also time what each layer's int8 saves."""
    compare: str | None = None
    """Its quantized form (an ONNX file, a candidate or a bundle): compare both tensor by tensor."""

    def check_inputs(self) -> None:
        """Check that the files are there, and the quantized form.

        Raises
        ------
        DataError
            When one is missing or malformed.
        """
        super().check_inputs()
        if self.compare is not None:
            _quantized(at_home(self.compare))

    def identity(self) -> Json:
        """Give the parameters with digests in the place of names: what files hold matters."""
        from edgecompress.provenance import candidate_digest

        found = super().identity()
        if self.compare is not None:
            found["compare"] = candidate_digest(Candidate(_quantized(at_home(self.compare))))
        return found

    def takes(self, candidate: Candidate) -> bool:
        """Whether `candidate` is one graph in fp32."""
        from edgecompress.quantization.graphs.fusion import is_quantized

        model = candidate.model
        return isinstance(model, OnnxModel) and not model.parts and not is_quantized(model.path)

    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Measure every part of `candidate`, each rounded alone.

        Raises
        ------
        DataError
            When it is no ONNX model of one graph, or there is nothing to run it on.
        StageError
            When it is quantized already, or has no such layer.
        """
        model = _one_graph(candidate)
        if self.compare is not None:
            return self._compared(candidate, model, _quantized(at_home(self.compare)), context)
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.plan.scheme import LEAST_OPSET
        from edgecompress.quantization.search.sensitivity import check_float, measure

        check_float(model)
        samples, said = self._samples(candidate, model, context)
        if not samples.feeds:
            raise DataError("there is no sample to measure on; name validation data or --data")
        newer = with_opset(model, LEAST_OPSET[self.activations], context.scratch / "upgraded")[0]
        scheme = self._scheme(candidate, newer, samples, context)
        items, facts = measure(
            newer,
            samples,
            scheme,
            context.scratch / "parts",
            parts=PARTS[self.parts],
            only=self.layers,
            progress=context.progress,
        )
        if self.time:
            times = _times(candidate, newer, scheme, context)
            items = [
                replace(item, saves_ms=times.get(item.layer)) if item.what == "both" else item
                for item in items
            ]
        return tuple(
            Measurement(
                "output_error",
                item.cost.error,
                "relative",
                split="validation" if samples.rows is not None else None,
                slice=f"{item.what}:{item.layer}",
                samples=len(samples.feeds),
                conditions={**facts, "on": said, **item.to_json()},
            )
            for item in items
        )

    def _compared(
        self, candidate: Candidate, model: OnnxModel, second: OnnxModel, context: Context
    ) -> tuple[Measurement, ...]:
        from edgecompress.quantization.prove.layer_errors import tensor_errors

        samples, said = self._samples(candidate, model, context)
        errors = tensor_errors(
            model, second, samples.feeds, context.scratch, progress=context.progress
        )
        return tuple(
            Measurement(
                "signal_to_noise",
                one.snr_db,
                "dB",
                split="validation" if samples.rows is not None else None,
                slice=f"tensor:{one.tensor}",
                samples=len(samples.feeds),
                conditions={"on": said, **one.to_json()},
            )
            for one in errors
        )

    def _samples(
        self, candidate: Candidate, model: OnnxModel, context: Context
    ) -> tuple[ComparedSamples, str]:
        """Give what models are compared on, and say what it is."""
        from edgecompress.data.sample import stratified_sample
        from edgecompress.models.graph import signature
        from edgecompress.models.inputs import encode_rows, typed_feed
        from edgecompress.models.outputs import ComparedSamples, judged
        from edgecompress.models.synthetic import made_feeds

        if self.inputs is not None:
            feeds = tuple(self.given_data(candidate, model, self.samples).feeds())
            more = " (all that there are)" if len(feeds) < self.samples else ""
            return ComparedSamples(feeds), f"{len(feeds)} samples of {Path(self.inputs).name}{more}"
        specs, examples = signature(model), context.validation
        places = stratified_sample(examples, self.samples, context.seed)
        chosen = tuple(examples[place] for place in places)
        rows = encode_rows(candidate, chosen)
        if rows is None:
            if examples:
                raise DataError(
                    "the model has no task or tokenizer, so that examples cannot be encoded for "
                    "it; give a candidate's or a bundle's directory, or --data PATH"
                )
            (one,) = made_feeds(model, [(1, 4 * LENGTHS)])
            size = max(1, sum(array.nbytes for array in one.values()))
            count = max(1, min(self.samples, MOST_MADE, MOST_BYTES // size))
            made = made_feeds(model, ((1, 4 + 4 * (number % LENGTHS)) for number in range(count)))
            left = count < self.samples
            more = f" (no more are made, of {self.samples} asked for)" if left else ""
            return ComparedSamples(tuple(made)), f"{count} made-up inputs{more}"
        feeds = tuple(typed_feed(rows, [row], specs) for row in range(len(rows.lengths)))
        said = f"{len(chosen)} of {len(examples)} validation examples"
        return ComparedSamples(feeds, rows, judged(rows, chosen), candidate.labels), said

    def _scheme(
        self, candidate: Candidate, model: OnnxModel, samples: ComparedSamples, context: Context
    ) -> Scheme:
        """Give how to round; static ranges come from training examples, else from the samples."""
        from edgecompress.data.calibration import CalibrationSet
        from edgecompress.models.graph import signature
        from edgecompress.models.inputs import encode_rows, typed_feed
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.observe.histograms import collect
        from edgecompress.quantization.observe.observing import observing
        from edgecompress.quantization.observe.ranges import find_ranges, unfit_tensors
        from edgecompress.quantization.plan.checks import linear_inputs
        from edgecompress.quantization.plan.scheme import Scheme

        scheme = Scheme(reduce_range=self.reduce_range, per_channel=self.per_channel)
        if self.activations == "dynamic":
            return scheme
        feeds = list(samples.feeds)
        if context.train and self.inputs is None:
            chosen = CalibrationSet(name="random").select(context.train, context.seed)
            rows = encode_rows(candidate, chosen)
            if rows is not None:
                specs = signature(model)
                feeds = [typed_feed(rows, [row], specs) for row in range(len(rows.lengths))]
        names = linear_inputs(read_model(model.path))
        with observing(model, names, context.scratch / "observed") as observed:
            seen = collect(observed, names, feeds, state=context.scratch / "seen.npz")
        return replace(scheme, ranges=find_ranges(seen), unfit=unfit_tensors(seen))

    def document(self, model: str, found: Sequence[Measurement]) -> Json:
        """Give what was measured as ``sensitivity.json`` holds it.

        Parameters
        ----------
        model : str
            The model's name.
        found : sequence of Measurement
            As `observe` gave them.
        """
        on = found[0].conditions["on"]
        if self.compare is not None:
            return _comparison(model, Path(self.compare).name, on, found)
        from edgecompress.quantization.search.sensitivity import Item, blame, culprits

        names = [one.name for one in fields(Item)]
        items = [Item.from_json({name: m.conditions[name] for name in names}) for m in found]
        worst = culprits(items)
        return {
            "model": model,
            "about": f"Measured on {on}; inputs of layers rounded to {self.activations} ranges.",
            "says": _say(worst, [blame(one, items) for one in worst]),
            "metric": found[0].conditions["metric"],
            "reference": found[0].conditions["reference"],
            "samples": found[0].samples,
            "culprits": [one.layer for one in worst],
            "items": [item.to_json() for item in items],
        }

    def files(self, model: str, found: Sequence[Measurement]) -> dict[str, str]:
        """Give ``sensitivity.json`` and the page ``sensitivity.html``, by their names."""
        from edgecompress.report.html import render_html
        from edgecompress.report.sensitivity import sensitivity_page

        document = self.document(model, found)
        return {
            "sensitivity.json": json.dumps(document, indent=1) + "\n",
            "sensitivity.html": render_html(sensitivity_page(document)),
        }


def _one_graph(candidate: Candidate) -> OnnxModel:
    from edgecompress.models.inputs import onnx_model

    if not isinstance(candidate.model, OnnxModel):
        raise DataError(
            "sensitivity takes an ONNX model; `edgecompress export` makes one of a PyTorch model"
        )
    if candidate.model.parts:
        files = ", ".join(str(part.path) for part in candidate.model.graphs.values())
        raise DataError(f"sensitivity takes one graph; name one of {files}")
    return onnx_model(candidate)


def _times(
    candidate: Candidate, model: OnnxModel, scheme: Scheme, context: Context
) -> dict[str, float]:
    """Measure what each layer's int8 saves, in ms: whole models, interleaved."""
    from edgecompress.models.storage import read_model
    from edgecompress.quantization.search.mixed import starting_point, write_mixed
    from edgecompress.quantization.search.search import layer_groups
    from edgecompress.quantization.search.units import find_units

    units = [unit for unit in find_units(read_model(model.path)) if not unit.is_table]
    weight = {unit.name: unit.values for unit in units}
    start = starting_point(
        find_units(read_model(model.path)), "static" if scheme.ranges else "dynamic"
    )
    found: dict[str, float] = {}
    groups = layer_groups(units)
    for done, names in enumerate(groups):
        context.progress(done, len(groups), "timing layers")
        models = []
        for number, assignment in enumerate((start, start.put(names, "fp32"))):
            path = context.folder / "timed" / str(number) / "model.onnx"
            made, _ = write_mixed(model, assignment, scheme, scheme.ranges or {}, path)
            models.append(replace(candidate, model=made))
        int8, fp32 = (find(each, "latency_p50") for each in context.measure(models))
        if int8 is not None and fp32 is not None:
            total = sum(weight[name] for name in names)
            gain = fp32.value - int8.value
            found |= {name: gain * weight[name] / total for name in names}
        shutil.rmtree(context.folder / "timed")
    return found


def _quantized(path: Path) -> OnnxModel:
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


def _say(worst: Sequence[Item], blamed: Sequence[str]) -> str:
    if not worst:
        return "No layer stands out: none costs ten times as much as the median layer."
    said = []
    for item, tensor in zip(worst, blamed, strict=True):
        because = f", mostly by its {tensor}" if tensor else ""
        said.append(f"{item.layer} (error {item.cost.error:.3g}{because})")
    return "Culprits: " + "; ".join(said) + "."


def _comparison(model: str, other: str, on: str, found: Sequence[Measurement]) -> Json:
    from edgecompress.quantization.prove.layer_errors import TensorError, worst_step

    names = [one.name for one in fields(TensorError)]
    errors = [TensorError(**{name: m.conditions[name] for name in names}) for m in found]
    step = worst_step(errors)
    says = "No tensor differs."
    if step is not None:
        says = f"It falls most at {step.tensor} ({step.op}): {step.snr_db:.1f} dB there"
        says += f", {errors[-1].snr_db:.1f} dB at the end."
    return {
        "model": model,
        "other": other,
        "about": f"Measured on {on}, without graph optimizations.",
        "says": says,
        "tensors": [one.to_json() for one in errors],
    }
