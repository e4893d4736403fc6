"""Stages whose result must answer as the fp32 model does: what every scheme is held to.

A result is compared with the model that it was made of, on a few samples. Where it no longer gives
answers, the layer at fault is looked for, by halves of the graph, and kept in fp32; where that does
not help, the stage fails.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgecompress.errors import EdgeCompressError, StageError
from edgecompress.stage import Context, Transform
from edgecompress.values import Candidate, Json

if TYPE_CHECKING:
    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.prove.answers import OutputError
    from edgecompress.values import Feed

MOST_SAMPLES = 8
MADE_SHAPES = ((1, 5), (1, 11), (3, 9), (1, 16), (2, 7))
"""Batch and length of made-up inputs: together eight rows, so that one tells what is constant."""
MOST_HELD = 4
"""Layers that are kept in fp32 before a stage gives up."""
STRICT = 2.0
"""How much nearer to fp32 a model must be whose faults are looked for: so that not all layers but
one of those at fault are kept in fp32, and the last hides behind the bound."""
MOST_MADE = 32
"""Models that are made on the way."""
NO_ANSWERS = "its answers are no longer those of the fp32 model"
ADVICE = (
    "exclude layers, take another scheme, or keep it all the same with --force (in a recipe, "
    "force: true)"
)


class Judged(Transform):
    """A stage that writes an ONNX model whose answers are compared with those it had before."""

    force: bool = False
    """Keep the result although its answers are no longer those of the fp32 model."""

    @abstractmethod
    def make(self, candidate: Candidate, context: Context, held: Mapping[str, str]) -> Candidate:
        """Write the model once.

        Parameters
        ----------
        candidate : Candidate
        context : Context
        held : mapping of str to str
            Weights (of those that `parts` gives) that stay in fp32, and why.
        """

    def parts(self, stored: StoredModel) -> Sequence[str]:
        """Give the weights that can be held in fp32 one by one, in the graph's order."""
        from edgecompress.quantization.graphs.constants import lift_constants
        from edgecompress.quantization.graphs.layers import find_layers, name_nodes

        name_nodes(stored)
        lift_constants(stored)
        layers = [layer for layer in find_layers(stored) if not layer.refused]
        return list(dict.fromkeys(next(filter(None, layer.weights)) for layer in layers))

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Write the model and compare its answers; see `make` for what else can be wrong.

        Raises
        ------
        StageError
            When they are no longer those of the fp32 model.
        """
        if context.recorded is not None:  # decided when the model was first made
            held = {str(k): str(v) for k, v in context.recorded.get("held", {}).items()}
            return _with(self.make(candidate, context, held), {}, held)
        return _Judge(self, candidate, context).run()


@dataclass(frozen=True)
class _Verdict:
    """How far a model's answers lie from fp32's, and why they are none."""

    errors: tuple[OutputError, ...]
    fault: str


class _Judge:
    """One candidate whose results are compared: its samples, and its own answers to them."""

    def __init__(self, stage: Judged, candidate: Candidate, context: Context) -> None:
        from edgecompress.models.inputs import onnx_model

        self.stage, self.candidate, self.context = stage, candidate, context
        self.source = onnx_model(candidate)
        self.made = 0

    def run(self) -> Candidate:
        """Make the model, and make it again with layers in fp32 where its answers are none."""
        reason = self._expect()
        made = self.stage.make(self.candidate, self.context, {})
        if reason:
            return _with(made, {"not_compared": reason}, {})
        verdict = self._verdict(made)
        if not verdict.fault or self.stage.force:
            return _with(made, self._json(verdict), {})
        held: dict[str, str] = {}
        first = verdict.fault
        while self._verdict(made, STRICT).fault and len(held) < MOST_HELD:
            name = self._culprit(held)
            if name is None:
                break
            held[name] = f"in 8 bits or fewer, {first}"
            again = self._make(held)
            if again is None:
                break
            made, verdict = again, self._verdict(again)
        if verdict.fault:
            raise StageError(self._refusal(first, held, made))
        return _with(made, self._json(verdict), held)

    def _expect(self) -> str:
        """Run the fp32 model, before anything else takes memory; say why it cannot be."""
        from edgecompress.quantization.prove.answers import give_large_blocks_back, outputs_of

        give_large_blocks_back()
        try:
            feeds, self.what = judging_samples(self.stage, self.candidate, self.context)
            self.names, self.expected = outputs_of(self.source, feeds, reference=True)
        except EdgeCompressError as error:
            if getattr(self.stage, "inputs", None):
                raise  # whoever gives inputs wants to hear what is wrong with them
            return str(error)
        self.feeds = list(feeds[: len(self.expected)])
        return ""

    def _verdict(self, made: Candidate, strict: float = 1.0) -> _Verdict:
        from edgecompress.models.inputs import onnx_model
        from edgecompress.quantization.prove.answers import compare_outputs, first_fault, outputs_of

        try:
            _, found = outputs_of(onnx_model(made), self.feeds)
        except StageError as error:
            return _Verdict((), str(error))
        errors = compare_outputs(self.names, self.expected, found, strict=strict)
        return _Verdict(errors, first_fault(errors))

    def _make(self, held: Mapping[str, str]) -> Candidate | None:
        """Make the model once more; None where too many were made or nothing is left to do."""
        self.made += 1
        if self.made > MOST_MADE:
            return None
        self.context.progress(self.made, MOST_MADE, "looking for the layer at fault")
        try:
            return self.stage.make(self.candidate, self.context, held)
        except StageError:
            return None

    def _culprit(self, held: Mapping[str, str]) -> str | None:
        """Find the layer with which the first layers of the graph stop giving answers.

        All layers behind the first so many are in fp32; their number is halved as far as it goes.
        """
        from edgecompress.models.storage import read_model

        names = [n for n in self.stage.parts(read_model(self.source.path)) if n not in held]
        fine, wrong = 0, len(names)
        while wrong - fine > 1:
            middle = (fine + wrong) // 2
            made = self._make({**held, **dict.fromkeys(names[middle:], "not yet")})
            if self.made > MOST_MADE:
                return None
            if made is not None and self._verdict(made, STRICT).fault:
                wrong = middle
            else:
                fine = middle
        return names[wrong - 1] if names else None

    def _json(self, verdict: _Verdict) -> Json:
        return answers_json(verdict.errors, len(self.feeds), self.what, verdict.fault)

    def _refusal(self, fault: str, held: Mapping[str, str], made: Candidate) -> str:
        told = f"; so it is with {', '.join(held)} in fp32, too" if held else ""
        where = self._parting(made)
        return f"{NO_ANSWERS}: {fault} ({len(self.feeds)} {self.what}){told}{where}; {ADVICE}"

    def _parting(self, made: Candidate) -> str:
        """Name the tensor at which both models part, where they have tensors in common."""
        from edgecompress.models.inputs import onnx_model
        from edgecompress.quantization.prove.layer_errors import tensor_errors, worst_step

        folder = self.context.scratch / "parting"
        try:
            found = tensor_errors(self.source, onnx_model(made), self.feeds[:2], folder)
        except StageError:
            return ""
        worst = worst_step(found)
        return f"; they part at {worst.tensor}, which {worst.node} makes" if worst else ""


def judging_samples(stage: Any, candidate: Candidate, context: Context) -> tuple[list[Feed], str]:
    """Choose what models are compared on: the stage's own data, examples, or made-up inputs.

    Returns
    -------
    feeds : list of dict of str to ndarray
        At most `MOST_SAMPLES`.
    what : str
        What they are, for a sentence.

    Raises
    ------
    StageError, DataError
        When no sample fits the model.
    """
    from edgecompress.models.graph import signature
    from edgecompress.models.inputs import encode_rows, onnx_model, typed_feed
    from edgecompress.models.synthetic import made_feeds

    source = onnx_model(candidate)
    if getattr(stage, "inputs", None) is not None:
        most = min(getattr(stage, "samples", None) or MOST_SAMPLES, MOST_SAMPLES)
        return list(stage.given_data(candidate, source, most).feeds()), "calibration samples"
    specs = signature(source)
    examples = (context.validation or context.train)[:MOST_SAMPLES]
    rows = encode_rows(candidate, examples)
    if rows is not None:
        count = min(len(rows.lengths), MOST_SAMPLES)
        return [typed_feed(rows, [row], specs) for row in range(count)], "examples"
    return made_feeds(source, MADE_SHAPES, context.seed, packed=False), "made-up inputs"


def _with(made: Candidate, answers: Json, held: Mapping[str, str]) -> Candidate:
    """Put into the last step what was measured, and which layers were held in fp32."""
    step = made.steps[-1]
    measured = {**step.measured, **({"answers": answers} if answers else {})}
    decisions = {**step.decisions, **({"held": dict(held)} if held else {})}
    return replace(
        made, steps=(*made.steps[:-1], replace(step, measured=measured, decisions=decisions))
    )


def answers_json(errors: Iterable[OutputError], samples: int, what: str, fault: str) -> Json:
    """Give what was compared as a step measures it."""
    found: Json = {
        "samples": samples,
        "of": what,
        "outputs": {one.name: one.to_json() for one in errors},
    }
    return found | ({"fault": fault} if fault else {})


def answer_lines(answers: Mapping[str, Any]) -> Iterable[str]:
    """Say how far the answers are, a line for each output.

    Parameters
    ----------
    answers : mapping
        What a step measured under this name.
    """
    if reason := answers.get("not_compared"):
        yield f"answers not compared with fp32's: {reason}"
        return
    on = f"on {answers.get('samples')} {answers.get('of')}"
    for name, found in answers.get("outputs", {}).items():
        if found["error"] is not None:
            yield (
                f"answers: {name} differs from fp32's by {found['error']:.2g} of its deviation, at "
                f"most {found['largest']:.2g}, {on}"
            )
    if fault := answers.get("fault"):
        yield f"kept by force, though {NO_ANSWERS}: {fault}"
