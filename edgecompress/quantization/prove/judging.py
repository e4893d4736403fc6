"""Whether a quantized model still answers as the fp32 model does: what every scheme is held to.

A result is compared with the model that it was made of, on a few samples. Where it no longer gives
answers, the layer at fault is looked for, by halves of the graph, and kept in fp32; where that does
not help, the scheme fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecompress.context import Context, Progress
from edgecompress.errors import EdgeCompressError, StageError
from edgecompress.values import Candidate, Json, OnnxModel

if TYPE_CHECKING:
    from pathlib import Path

    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.prove.answers import OutputError
    from edgecompress.values import Feed

Write = Callable[[Mapping[str, str]], Candidate]

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


@dataclass(frozen=True)
class _Verdict:
    """How far a model's answers lie from fp32's, and why they are none."""

    errors: tuple[OutputError, ...]
    fault: str


class Judge:
    """One fp32 model that results are compared with: its samples, and its own answers to them.

    Parameters
    ----------
    source : OnnxModel
        In fp32.
    samples : callable
        Gives what models are compared on, at most `MOST_SAMPLES`, and what they are, for a
        sentence.
    scratch : Path
    progress : Progress
    given : bool
        Whether a person gave the samples, who wants to hear what is wrong with them.
    force : bool
        Whether a result is kept whose answers are none.
    """

    def __init__(
        self,
        source: OnnxModel,
        samples: Callable[[], tuple[Sequence[Feed], str]],
        scratch: Path,
        progress: Progress,
        *,
        given: bool = False,
        force: bool = False,
    ) -> None:
        from edgecompress.quantization.prove.answers import give_large_blocks_back, outputs_of

        self.source, self.scratch, self.progress, self.force = source, scratch, progress, force
        self.made = 0
        self.reason = ""
        give_large_blocks_back()
        try:  # before anything else takes memory
            feeds, self.what = samples()
            self.names, self.expected = outputs_of(source, feeds, reference=True)
        except EdgeCompressError as error:
            if given:
                raise
            self.reason = str(error)
        else:
            self.feeds = list(feeds[: len(self.expected)])

    def run(
        self, write: Write, names: Callable[[StoredModel], Sequence[str]]
    ) -> tuple[Candidate, dict[str, str], Json]:
        """Make the model, and make it again with layers in fp32 where its answers are none.

        Parameters
        ----------
        write : callable
            Makes the model with the weights in fp32 that it is given, by their names and why.
        names : callable
            Gives the weights that can be held in fp32 one by one, in the graph's order.

        Returns
        -------
        made : Candidate
        held : dict of str to str
            Weights that stay in fp32, and why.
        answers : dict
            What was compared, as a step measures it.

        Raises
        ------
        StageError
            When its answers are no longer those of the fp32 model.
        """
        made = write({})
        if self.reason:
            return made, {}, {"not_compared": self.reason}
        verdict = self._verdict(made)
        if not verdict.fault or self.force:
            return made, {}, self._json(verdict)
        held: dict[str, str] = {}
        first = verdict.fault
        while self._verdict(made, STRICT).fault and len(held) < MOST_HELD:
            name = self._culprit(write, names, held)
            if name is None:
                break
            held[name] = f"in 8 bits or fewer, {first}"
            again = self._make(write, held)
            if again is None:
                break
            made, verdict = again, self._verdict(again)
        if verdict.fault:
            raise StageError(self._refusal(first, held, made))
        return made, held, self._json(verdict)

    def _verdict(self, made: Candidate, strict: float = 1.0) -> _Verdict:
        from edgecompress.models.inputs import onnx_model
        from edgecompress.quantization.prove.answers import compare_outputs, first_fault, outputs_of

        try:
            _, found = outputs_of(onnx_model(made), self.feeds)
        except StageError as error:
            return _Verdict((), str(error))
        errors = compare_outputs(self.names, self.expected, found, strict=strict)
        return _Verdict(errors, first_fault(errors))

    def _make(self, write: Write, held: Mapping[str, str]) -> Candidate | None:
        """Make the model once more; None where too many were made or nothing is left to do."""
        self.made += 1
        if self.made > MOST_MADE:
            return None
        self.progress(self.made, MOST_MADE, "looking for the layer at fault")
        try:
            return write(held)
        except StageError:
            return None

    def _culprit(
        self,
        write: Write,
        names: Callable[[StoredModel], Sequence[str]],
        held: Mapping[str, str],
    ) -> str | None:
        """Find the layer with which the first layers of the graph stop giving answers.

        All layers behind the first so many are in fp32; their number is halved as far as it goes.
        """
        from edgecompress.models.storage import read_model

        layers = [name for name in names(read_model(self.source.path)) if name not in held]
        fine, wrong = 0, len(layers)
        while wrong - fine > 1:
            middle = (fine + wrong) // 2
            made = self._make(write, {**held, **dict.fromkeys(layers[middle:], "not yet")})
            if self.made > MOST_MADE:
                return None
            if made is not None and self._verdict(made, STRICT).fault:
                wrong = middle
            else:
                fine = middle
        return layers[wrong - 1] if layers else None

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

        folder = self.scratch / "parting"
        try:
            found = tensor_errors(self.source, onnx_model(made), self.feeds[:2], folder)
        except StageError:
            return ""
        worst = worst_step(found)
        return f"; they part at {worst.tensor}, which {worst.node} makes" if worst else ""


def judging_samples(candidate: Candidate, context: Context) -> tuple[list[Feed], str]:
    """Choose what models are compared on: examples, or made-up inputs.

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
    specs = signature(source)
    examples = (context.validation or context.train)[:MOST_SAMPLES]
    rows = encode_rows(candidate, examples)
    if rows is not None:
        count = min(len(rows.lengths), MOST_SAMPLES)
        return [typed_feed(rows, [row], specs) for row in range(count)], "examples"
    return made_feeds(source, MADE_SHAPES, context.seed, packed=False), "made-up inputs"


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
