"""Profile: speed, cold start and memory, with and without a reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import labelled_texts, small_context, tiny_teacher
from pydantic import ValidationError

from edgecompress.stages.profile import Profile
from edgecompress.values import METRICS, Candidate, Measurement

QUICK = Profile(warmup_ms=5, min_duration_ms=150, min_count=40, cold_starts=1, attempts=1)
TEXTS = labelled_texts(12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def by_metric(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    assert len({m.metric for m in found}) == len(found)
    return {m.metric: m for m in found}


def test_everything_that_a_budget_may_name(classifier: Candidate, tmp_path: Path) -> None:
    context = small_context(tmp_path, validation=TEXTS, reference=classifier)
    found = by_metric(QUICK.observe(classifier, context))
    wanted = {name for name, needs in METRICS.items() if needs in ("latency", "memory")}
    assert wanted | {"harness_overhead"} == set(found)
    assert found["latency_p50"].target == found["peak_memory"].target == "local"
    assert found["speedup"].conditions["reference"] == "stock fp32 export"
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


def test_fields() -> None:
    with pytest.raises(ValidationError):
        Profile(threads=0)
