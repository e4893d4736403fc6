"""`quantize.auto`: exactly the culprit stays fp32, what is timed counts, and it ends in time."""

from dataclasses import dataclass, field, replace

import pytest
from helpers import SmallContext, small_context, tagged_examples
from planted import CULPRIT, planted_encoder

from edgecompress.errors import StageError
from edgecompress.models.graph import signature
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.session import open_session
from edgecompress.quantization.graphs.fusion import operator_counts
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.quantize.auto import Auto
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.values import Candidate, Measurement

FLOAT, INT8, STATIC = 10.0, 3.0, 4.0


@dataclass(frozen=True)
class ToldContext(SmallContext):
    """Says how long a graph takes by its operators; stops with an error when it is told to."""

    jobs: list = field(default_factory=list)
    stop_after: int = 1000
    narrow_is_slow: bool = False

    def time(self, candidates):
        if len(self.jobs) >= self.stop_after:
            raise KeyboardInterrupt
        self.jobs.append(len(candidates))
        times = [self.cost(candidate) for candidate in candidates]
        return [
            (
                Measurement("latency_p50", time, "ms"),
                Measurement("speedup", times[0] / time, "x", interval=(times[0] / time,) * 2),
            )
            for time in times
        ]

    def cost(self, candidate):
        counts = operator_counts(candidate.model.path)
        time = counts.get("MatMulInteger", 0) * INT8
        static = counts.get("QuantizeLinear", 0)
        floats = [n for n in counts if n == "MatMul"] and counts["MatMul"]
        time += (floats or 0) * FLOAT if not static else (floats or 0) * STATIC
        if self.narrow_is_slow and any(
            part.name.startswith("/classifier") for part in coverage(candidate.model).int8_linears
        ):
            time += 50.0
        return time + 1


@pytest.fixture(scope="module")
def planted():
    return planted_encoder()


@pytest.fixture(scope="module")
def answered(planted):
    """Examples whose labels are what the fp32 model answers: it is right in all."""
    examples = tagged_examples(40, seed=4)
    rows = encode_rows(planted, examples)
    specs = signature(planted.model)
    session = open_session(planted.model)
    feeds = [typed_feed(rows, [row], specs) for row in range(len(rows))]
    logits = [session.run(None, feed)[0][0] for feed in feeds]
    found = rows.task.decode(logits, rows)
    return tuple(
        replace(example, target=tags) for example, tags in zip(examples, found.labels, strict=True)
    )


def told(path, examples, **fields):
    plain = vars(small_context(path, validation=examples, train=examples[:10]))
    return ToldContext(**plain | fields)


@pytest.fixture(scope="module")
def made(planted, answered, tmp_path_factory):
    context = told(tmp_path_factory.mktemp("made"), answered)
    return check_stage(Auto(max_drop=0.02, forms=("dynamic",)), planted, context)


def test_exactly_the_culprit_stays_fp32(made):
    step = made.steps[-1]
    decided = step.decisions
    assert list(decided["fp32"]) == [CULPRIT]
    assert "int8 costs too much" in decided["fp32"][CULPRIT]
    assert decided["exceptions"] == {CULPRIT: decided["fp32"][CULPRIT]}
    assert decided["verdict"]["state"] == "pass" and decided["metric"] == "f1"
    assert decided["judged_on"] == 40
    found = coverage(made.model)
    assert [part.name for part in found.fp32_linears] == [CULPRIT]
    assert not found.fp32_embeddings
    tried = step.measured["tried"]
    assert not tried[0]["passes"] and tried[0]["drop"] > 0.02  # all int8
    assert step.measured["sensitivity"][0]["layer"] == CULPRIT
    assert step.measured["reference"] == 1.0 and step.measured["speedup"] > 1


def test_what_was_chosen_is_made_again_without_measuring(made, planted, answered, tmp_path):
    decided = made.steps[-1].decisions
    blind = small_context(tmp_path, validation=answered)
    again = Auto(max_drop=0.02, forms=("dynamic",)).apply(planted, blind, decided)
    assert again.model.path.read_bytes() == made.model.path.read_bytes()
    assert again.steps[-1].decisions == decided
    with pytest.raises(StageError, match="of a model with other layers"):
        Auto().apply(planted, blind, {**decided, "forms": {"a": "fp32"}})
    with pytest.raises(StageError, match="no record of what it chose"):
        Auto().apply(planted, blind, {})
    with pytest.raises(StageError, match="that this recipe rules out"):
        Auto(forms=("static",)).apply(planted, blind, decided)


def test_a_wide_budget_takes_all_int8_and_small_tables(planted, answered, tmp_path):
    context = told(tmp_path, answered)
    made = Auto(max_drop=1.0, forms=("dynamic",)).apply(planted, context)
    decided = made.steps[-1].decisions
    assert decided["fp32"] == {}
    tables = [form for form in decided["forms"].values() if form.startswith("int")]
    assert tables == ["int4"] * 3
    assert not list((tmp_path / "folder").glob("trials*"))


def test_a_layer_that_is_slower_in_int8_stays_fp32(planted, answered, tmp_path):
    context = told(tmp_path, answered, narrow_is_slow=True)
    stage = Auto(max_drop=1.0, forms=("dynamic",), embedding_bits=(8,))
    decided = stage.apply(planted, context).steps[-1].decisions
    assert decided["fp32"] == {"/classifier/MatMul": "measured to be faster in fp32"}


def test_the_faster_form_is_repaired_with_the_other(planted, answered, tmp_path):
    """Static is said to be fastest; its ranges are as wide, and the culprit goes to fp32, too."""
    stage = Auto(max_drop=0.05, max_error=0.05, embedding_bits=(8,))
    decided = stage.apply(planted, told(tmp_path, answered)).steps[-1].decisions
    assert decided["verdict"]["state"] == "pass"
    assert set(decided["fp32"]) <= {CULPRIT} and decided["forms"][CULPRIT] == "fp32"
    assert decided["ranges"] or "static" not in decided["forms"].values()


def test_a_budget_that_cannot_be_met_gives_the_nearest(planted, answered, tmp_path):
    stage = Auto(max_drop=0.0, max_error=1e-9, forms=("dynamic",), most_fp32=0.1)
    step = stage.apply(planted, told(tmp_path, answered)).steps[-1]
    assert step.decisions["verdict"]["state"] == "fail"
    assert "no model that was tried keeps the budget" in step.decisions["verdict"]["reason"]
    errors = [one["error"] for one in step.measured["tried"]]
    forms = step.decisions["forms"]
    nearest = next(one for one in step.measured["tried"] if one["forms"] == forms)
    assert nearest["error"] == min(errors)
    assert any("the budget is not kept with the " in note for note in step.decisions["notes"])


def test_the_time_limit_ends_it_with_what_there_is(planted, answered, tmp_path):
    stage = Auto(max_drop=0.0, forms=("dynamic",), seconds=1e-6)
    step = stage.apply(planted, told(tmp_path, answered)).steps[-1]
    assert len(step.measured["tried"]) == 1
    assert step.decisions["verdict"]["state"] == "fail"
    assert any("time limit of 1e-06 s" in note for note in step.decisions["notes"])


def test_it_goes_on_where_it_was_killed(planted, answered, tmp_path, monkeypatch):
    from edgecompress.quantization.search import trials

    written = []
    real = trials.write_mixed
    monkeypatch.setattr(trials, "write_mixed", lambda *a: written.append(a[1]) or real(*a))
    stage = Auto(max_drop=0.02, forms=("dynamic",))
    first = told(tmp_path, answered, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        stage.apply(planted, first)
    before = len(written)
    assert before > 2 and len(first.jobs) == 2
    second = told(tmp_path / "second", answered, scratch=first.scratch)
    made = stage.apply(planted, second)
    assert list(made.steps[-1].decisions["fp32"]) == [CULPRIT]
    whole = told(tmp_path / "whole", answered)
    written.clear()
    stage.apply(planted, whole)
    assert len(second.jobs) == len(whole.jobs) - 2


def test_bad_input_is_refused_in_words(planted, answered, tmp_path):
    quantized = Dynamic().apply(planted, small_context(tmp_path / "q"))
    with pytest.raises(StageError, match="is quantized already"):
        Auto().apply(quantized, told(tmp_path / "1", answered))
    with pytest.raises(StageError, match=r"there are none: give `data.validation`"):
        Auto(forms=("dynamic",)).apply(planted, told(tmp_path / "2", ()))
    with pytest.raises(StageError, match="did you mean '/classifier/MatMul'"):
        Auto(exclude=("/clasifier/MatMul",)).apply(planted, told(tmp_path / "3", answered))
    with pytest.raises(StageError, match=r"set forms: \[dynamic\]"):
        plain = vars(small_context(tmp_path / "4", validation=answered))
        Auto(forms=("static",)).apply(planted, ToldContext(**plain))


def test_without_a_task_the_outputs_are_compared(planted, tmp_path):
    bare = Candidate(planted.model)
    step = Auto(max_error=0.05).apply(bare, told(tmp_path, ())).steps[-1]
    decided = step.decisions
    assert decided["metric"] is None and CULPRIT in decided["fp32"]
    assert decided["verdict"]["reason"].startswith("the outputs' error is")
    assert decided["notes"][:2] == [
        "there is no task, so that made-up inputs were compared",
        "static was left out: there are no training examples",
    ]
