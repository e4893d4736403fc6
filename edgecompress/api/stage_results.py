"""What a stage made of a model: before and after, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.shown import Section, Shown
from edgecompress.data.calibration import few_examples
from edgecompress.parts import by_part
from edgecompress.targets.size import compressed_size, model_files, total_bytes
from edgecompress.values import Candidate, Json, OnnxModel

LARGER = (
    "the file has grown, as it holds few weights beside the nodes that quantizing adds; keep it "
    "only where it is faster (edgecompress profile BEFORE AFTER --compare)"
)


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about what was made; a `warning` asks to be looked at."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class StageResult(Shown):
    """What a stage made of a model; it stands for its `output` where a path is wanted.

    Attributes
    ----------
    stage : str
    output : Path
        The directory, or the ONNX file, that was written.
    before, after : Candidate
    bytes_before, bytes_after : int
        Size of the model's files.
    remarks : tuple of Remark
        What there is to know of it, the most important first.
    """

    stage: str
    output: Path
    before: Candidate
    after: Candidate
    bytes_before: int
    bytes_after: int
    remarks: tuple[Remark, ...] = ()

    def __fspath__(self) -> str:
        return str(self.output)

    @property
    def decisions(self) -> Json:
        """What the stage decided."""
        return self.after.steps[-1].decisions

    @property
    def sentence(self) -> str:
        """How the size changed, in a sentence."""
        old, new = _megabytes(self.bytes_before), _megabytes(self.bytes_after)
        return f"{self.stage}: {old} → {new} ({self._change})"

    @property
    def _change(self) -> str:
        old, new = self.bytes_before, self.bytes_after
        return (
            f"{new / max(old, 1):.2f}× larger" if new > old else f"{old / max(new, 1):.2f}× smaller"
        )

    def sections(self) -> Iterator[Section]:
        """Lay out the sizes, and what there is to know."""
        sizes = (_megabytes(self.bytes_before), _megabytes(self.bytes_after), self._change)
        heads = ("", "before", "after", "")
        notes, warnings = (
            tuple(remark.text for remark in self.remarks if remark.warning is kind)
            for kind in (False, True)
        )
        yield Section(self.stage, heads, (("size", *sizes),), notes, 1, warnings)


def stage_result(stage: str, output: Path, before: Candidate, after: Candidate) -> StageResult:
    """Measure the files, and gather what there is to say of what was made."""
    old, new = total_bytes(before.model), total_bytes(after.model)
    remarks = tuple(_remarks(stage, output, before, after, old, new))
    return StageResult(stage, output, before, after, old, new, remarks)


def _remarks(
    stage: str, output: Path, before: Candidate, after: Candidate, old: int, new: int
) -> Iterator[Remark]:
    step = after.steps[-1]
    if new > old and stage.startswith("quantize."):
        yield Remark(LARGER, warning=True)
    if old == new:  # zeros in the place of weights show only when the files are packed
        packed, smaller = (compressed_size(model_files(it.model)) for it in (before, after))
        yield Remark(f"as a compressed download: {_megabytes(packed)} → {_megabytes(smaller)}")
    yield from map(Remark, _otherwise(after))
    for name, decided in by_part(step.decisions).items():
        for line in _left_out(decided.get("exceptions", {})):
            yield Remark(_of_part(name, line))
    for name, measured in by_part(step.measured).items():
        if answers := measured.get("answers"):
            from edgecompress.quantization.prove.judging import answer_lines

            for line in answer_lines(answers):
                yield Remark(_of_part(name, line))
    if few := few_examples(step.decisions):
        yield Remark(few, warning=True)
    yield Remark(f"wrote {output}")
    if stage.startswith("vocabulary."):
        yield from map(Remark, _pieces(step.decisions))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


def _otherwise(made: Candidate) -> Iterator[str]:
    """Say what a quantization did otherwise than one would think."""
    from edgecompress.quantization.prove.proven import stored_twice

    step = made.steps[-1]
    asked, ran = step.parameters.get("samples"), step.decisions.get("calibrated_on")
    if asked and ran and ran < asked:
        yield f"calibrated on {ran} samples: there are no more, of {asked} asked for"
    if step.stage.startswith("quantize.") and isinstance(made.model, OnnxModel):
        for name, part in made.model.graphs.items():
            if twice := stored_twice(part.path):
                line = (
                    f"stored twice: {_first(twice)} (nodes that are not quantized read the fp32 "
                    "weight, too)"
                )
                yield _of_part(name if made.model.parts else "", line)


def _of_part(name: str, line: str) -> str:
    """Say of which part of a model a line is."""
    return f"{name}: {line}" if name else line


def _left_out(exceptions: Mapping[str, str]) -> Iterator[str]:
    """Say for each reason which layers a quantization left in fp32."""
    reasons: dict[str, list[str]] = {}
    for layer, reason in exceptions.items():
        reasons.setdefault(reason, []).append(layer)
    for reason, layers in reasons.items():
        yield f"in fp32: {_first(layers)} ({reason})"


def _first(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _pieces(decided: Json) -> Iterator[str]:
    """Say what became of the word pieces."""
    if "pieces" not in decided:
        old, new = decided["rows"]
        yield f"rows: {old} → {new}; the tokenizer is as it was"
        for name, share in (("corpus", "corpus_shared"), ("held-out text", "held_out_shared")):
            if decided[share] is not None:
                yield f"{name}: {decided[share]:.2%} of the pieces use the row of another"
        return
    old, new = decided["pieces"]
    yield f"pieces: {old} → {new} ({decided['used']} for the corpus, {decided['filled']} more)"
    for name, found in (("corpus", decided["corpus"]), ("held-out text", decided["held_out"])):
        if found is None:
            yield "held-out text: none; give --validation to see what the smaller one costs"
            continue
        (before, after), unknown = found["pieces_per_word"], found["unknown"]
        yield (
            f"{name}: {before:.3f} → {after:.3f} pieces a word, "
            f"{unknown[0]:.2%} → {unknown[1]:.2%} unknown, "
            f"{found['words_split_otherwise']:.2%} of the words split otherwise"
        )
