"""What a transform promises: `check_stage` holds it, and names the first promise that is broken."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import extending
import onnx
import pytest
from helpers import small_context
from two_parts import write_two_parts

from edgecompress.errors import StageError
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.stage import Context, Decisions, Transform, check_stage
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.values import Candidate, OnnxModel, Step, TorchModel


class Notes(Transform):
    """Writes a note into a graph; it has the one method that every transform has."""

    accepts = (OnnxModel,)
    yields = OnnxModel

    text: str = "end"

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, self.text)

    def written(self, given: Candidate, context: Context, text: object, **found: Any) -> Candidate:
        model = OnnxModel(context.folder / "model" / "model.onnx")
        model.directory.mkdir()
        graph = onnx.load(given.model.path)
        graph.doc_string = str(text)
        onnx.save(graph, model.path)
        return given.with_model(model, **found)


def note(made: Candidate) -> str:
    return str(onnx.load(made.model.path).doc_string)


class Decides(Notes):
    """Asks the context once, and writes what it was told."""

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        told = context.measure([candidate])
        return Decisions({"told": told}, {"asked": 1}, made=told)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        told = decisions.record["told"]
        return self.written(candidate, context, told, length=len(str(told)))


class Random(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, os.urandom(4).hex())


class Forgets(Decides):
    """Writes what it found out, and records nothing of it."""

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        return replace(super().decide(candidate, context), record={})

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, decisions.made)


class Counts(Notes):
    """Its bytes are the same, and what it says of them is not."""

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, "", place=str(context.folder))


class MeasuresLate(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, context.measure([candidate]))


class InPlace(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        (candidate.model.directory / "decoder.onnx").replace(candidate.model.path)
        return self.written(candidate, context, "")


class Elsewhere(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return candidate.with_model(candidate.model)


class NoStep(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        made = super().make(candidate, decisions, context)
        return replace(made, steps=candidate.steps)


class NotJson(Notes):
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        return self.written(candidate, context, "", place=context.folder)


class TellsAnother(Notes):
    @classmethod
    def tell(cls, step: Step) -> str:
        return f"Kept {step.decisions['heads']} heads."


class Other(Notes):
    yields = TorchModel


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    return Candidate(OnnxModel(write_two_parts(tmp_path / "given") / "encoder.onnx"))


def context(path: Path, told: int = 7) -> Context:
    asked: list[int] = []

    def measure(_: Any) -> Any:
        asked.append(told)
        return told + len(asked)

    return small_context(path, measure=measure)


def test_one_method_is_enough(candidate: Candidate, tmp_path: Path) -> None:
    made = check_stage(Notes(text="!"), candidate, context(tmp_path))
    assert note(made) == "!"
    assert made.steps[-1].decisions == {} == made.steps[-1].measured


def test_what_was_decided_is_followed_and_not_asked_again(
    candidate: Candidate, tmp_path: Path
) -> None:
    made = check_stage(Decides(), candidate, context(tmp_path))
    step = made.steps[-1]
    assert (step.decisions, step.measured) == ({"told": 8, "length": 1}, {"asked": 1})
    nowhere = small_context(tmp_path / "again")
    again = Decides().apply(candidate, nowhere, {"told": 12})
    assert note(again) == "12"
    assert again.steps[-1].decisions == {"told": 12, "length": 2}


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Random, r"what it recorded gives another model \(model.onnx\)"),
        (Forgets, "what it recorded gives another model"),
        (Counts, r"what it recorded gives another decisions \(place\)"),
        (MeasuresLate, "applied where nothing can be measured"),
        (InPlace, "changed its input or the teacher in place"),
        (Elsewhere, "did not write its model below its folder"),
        (NoStep, "must append exactly one step"),
        (NotJson, "decisions are not JSON"),
        (Other, "promised a TorchModel and gave another"),
        (TellsAnother, "cannot tell its own step"),
    ],
)
def test_a_promise_that_is_broken_is_named(
    stage: type[Transform], said: str, candidate: Candidate, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=said):
        check_stage(stage(), candidate, context(tmp_path))


def test_the_stage_of_the_page_keeps_its_promises(candidate: Candidate, tmp_path: Path) -> None:
    model = onnx.load(candidate.model.path)
    model.graph.node[0].doc_string = "for its authors"
    onnx.save(model, candidate.model.path)
    stage = extending.module("numbers_stage").StripNotes(producer="us")
    made = check_stage(stage, candidate, small_context(tmp_path))
    assert made.steps[-1].decisions == {"notes": 1}


def test_a_model_of_parts_is_made_again_part_by_part(tmp_path: Path) -> None:
    model = onnx_model_at(write_two_parts(tmp_path / "parts"))
    assert model is not None
    made = check_stage(Dynamic(), Candidate(model), small_context(tmp_path))
    decided = made.steps[-1].decisions["parts"]
    assert set(decided) == {"encoder", "decoder"} == set(made.model.graphs)
    assert len(decided["encoder"]["int8_linears"]) == 2
