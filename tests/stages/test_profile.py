"""Profile: speed, cold start and memory, with and without a reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import labelled_texts, small_context, tiny_teacher
from pydantic import ValidationError
from quantized_models import two_layers

from edgecompress.all_metrics import bounded
from edgecompress.stages.profile import Profile
from edgecompress.values import Candidate, Measurement

QUICK = Profile(
    warmup_ms=5, max_warmup_ms=50, min_duration_ms=150, min_count=40, cold_starts=1, attempts=1
)
TEXTS = labelled_texts(12)


def by_metric(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    assert len({m.metric for m in found}) == len(found)
    return {m.metric: m for m in found}


def test_everything_that_a_budget_may_name(classifier: Candidate, tmp_path: Path) -> None:
    both = {"teacher": classifier, "reference": classifier}
    context = small_context(tmp_path, validation=TEXTS, **both)
    found = by_metric(QUICK.observe(classifier, context))
    wanted = {one.name for one in bounded() if one.needs in ("latency", "memory")}
    elsewhere = {"temperature", "real_time_factor"}  # not read everywhere; of sounds alone
    assert wanted | {"harness_overhead"} == set(found) | elsewhere
    assert found["latency_p50"].target == found["peak_memory"].target == "local"
    assert found["speedup"].conditions["reference"] == "fp32 export"
    p99 = found["latency_p99"]
    assert (p99.interval is None) == (p99.samples < 368)  # fewer readings have no such interval
    assert p99.interval or p99.invalid
    assert context.said == [] or context.said[-1][0] <= context.said[-1][1]


def test_an_unknown_graph(tagger: Candidate, tmp_path: Path) -> None:
    found = by_metric(QUICK.observe(Candidate(tagger.model), small_context(tmp_path)))
    assert "latency_p50" in found
    assert not {"speedup", "end_to_end_p50"} & set(found)


def test_a_pytorch_model(classifier: Candidate, tmp_path: Path) -> None:
    teacher = tiny_teacher(tmp_path / "teacher", TEXTS, "text-classification")
    context = small_context(tmp_path, validation=TEXTS, reference=classifier)
    found = by_metric(QUICK.observe(teacher, context))
    assert 0 < found["speedup"].value < 1
    assert found["speedup"].conditions["paired"] is True  # PyTorch and ONNX Runtime in one loop
    assert found["load_time"].conditions["runtime"] == "torch"
    assert found["peak_memory"].value > found["memory_rise"].value > 0
    assert found["end_to_end_p50"].value > found["latency_p50"].value


def test_no_cold_starts(tagger: Candidate, tmp_path: Path) -> None:
    stage = QUICK.model_copy(update={"cold_starts": 0})
    found = by_metric(stage.observe(Candidate(tagger.model), small_context(tmp_path)))
    assert "peak_memory" not in found


def slices(found: tuple[Measurement, ...]) -> set[tuple[str, str | None]]:
    return {(m.metric, m.slice) for m in found}


def test_a_ratio_to_another_model(tagger: Candidate, tmp_path: Path) -> None:
    stage = QUICK.model_copy(update={"cold_starts": 0})
    foreign = Candidate(tagger.model)
    found = by_metric(stage.observe(foreign, small_context(tmp_path, reference=foreign)))
    assert found["speedup"].conditions["reference"] == "model.onnx"


def test_further_threads_batches_and_no_arena(
    classifier: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_context(tmp_path, validation=TEXTS, reference=classifier)
    update = {"threads": (1, 2), "batches": (4,), "arena": "both"}
    stage = Profile.model_validate(QUICK.model_dump(mode="json") | update)
    monkeypatch.setattr("edgecompress.targets.local.machine.environment", lambda: {"cores": 2})
    found = stage.observe(classifier, context)
    varied = {each for each in slices(found) if each[1]}
    assert varied == {
        *(("latency_p50", "threads:2"), ("latency_p90", "threads:2"), ("speedup", "threads:2")),
        *(("latency_p50", "arena:off"), ("latency_p90", "arena:off"), ("speedup", "arena:off")),
        *(("peak_memory", "arena:off"), ("throughput", "batch:4")),
    }
    by_slice = {(m.metric, m.slice): m for m in found}
    assert by_slice["latency_p50", None].conditions["threads"] == 1
    assert by_slice["latency_p50", "threads:2"].conditions["threads"] == 2
    assert by_slice["latency_p50", "arena:off"].conditions["arena"] == "off"
    assert by_slice["peak_memory", "arena:off"].conditions["arena"] == "off"
    assert by_slice["latency_p50", None].conditions["warmup_rounds"] >= 2
    assert by_slice["harness_overhead", None].value < 0.02  # ms


def test_operators_of_a_quantized_model(tmp_path: Path) -> None:
    candidate = two_layers(tmp_path)
    stage = QUICK.model_copy(update={"operators": True, "cold_starts": 0})
    found = stage.observe(candidate, small_context(tmp_path))
    table = [one for one in found if one.metric == "operator_time"]
    assert sum(one.conditions["share"] for one in table) == pytest.approx(1)
    assert [one.value for one in table] == sorted((one.value for one in table), reverse=True)
    rows = {str(one.slice).removeprefix("operator:"): one.conditions for one in table}
    assert rows["DynamicQuantizeMatMul"]["nodes"] == 1
    assert rows["MatMul"]["float"] == {"kept": "excluded by the recipe"}
    ((name, reason),) = rows["FusedMatMul"]["float"].items()  # with its transpose
    assert name.startswith("computed")
    assert "no constant weight" in reason
    assert "float" not in rows["Softmax"]


def test_fields() -> None:
    assert Profile.model_validate({"threads": [1, 2, 4]}).threads == (1, 2, 4)
    with pytest.raises(ValidationError):
        Profile(threads=())
    with pytest.raises(ValidationError, match="2 threads need as many cores"):
        Profile(threads=(1, 2), affinity=(0,))
    with pytest.raises(ValidationError, match="twice"):
        Profile(affinity=(1, 1))
    with pytest.raises(ValidationError):
        Profile(threads=0)
