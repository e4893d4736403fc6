"""What other work spoiled is measured again by a later run, and once only in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgecompress.context import Context
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.single import single_recipe
from edgecompress.engine.splits import Splits
from edgecompress.stages.size import Size
from edgecompress.store import Store
from edgecompress.values import Candidate, Measurement


@pytest.mark.parametrize(
    ("reason", "times"), [("other load: the process had half a core", [1, 2]), (None, [1, 1])]
)
def test_a_run_measures_once(
    tagger: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: str | None,
    times: list[int],
) -> None:
    asked: list[Candidate] = []

    def observe(self: Size, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        asked.append(candidate)
        return (Measurement("size", float(len(asked)), "bytes", None, invalid=reason),)

    monkeypatch.setattr(Size, "observe", observe)
    found = []
    for _ in range(2):
        pipeline = Pipeline(single_recipe(str(tagger.model.path), None), Store(tmp_path), Splits())  # type: ignore[union-attr]
        first, second = (pipeline.observe(Size(), tagger) for _ in range(2))
        pipeline.close()
        assert first == second
        found.append(len(asked))
    assert found == times


def test_what_a_stage_times_keeps_to_the_durations_of_profile(
    tagger: Candidate, tmp_path: Path
) -> None:
    recipe = single_recipe(str(tagger.model.path), None)  # type: ignore[union-attr]
    said = {"threads": [1, 2], "min_duration_ms": 600, "max_warmup_ms": 5}
    fields = recipe.fields.model_copy(update={"profile": said})
    pipeline = Pipeline(replace(recipe, fields=fields), Store(tmp_path), Splits())
    ((p50, *_),) = pipeline.time([tagger])
    pipeline.close()
    assert p50.conditions["threads"] == 1
    assert p50.conditions["duration_ms"] >= 600  # tests' own default is 200
    assert p50.conditions["warmup_rounds"] >= 1
