"""docs/results.md names every metric and every condition that a profile of a model carries."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from foreign_models import transformer
from helpers import small_context

from edgecompress.all_metrics import metrics
from edgecompress.stages.profile import Profile
from edgecompress.stages.size import Size
from edgecompress.targets.inputs import InputSettings
from edgecompress.values import Candidate, Measurement, OnnxModel

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")


def named(heading: str) -> set[str]:
    """The names in the first columns of a section's table, `like this`."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Measurement, ...]:
    """All that can be measured here of a small model, which is its own reference."""
    folder = tmp_path_factory.mktemp("page")
    model = Candidate(OnnxModel(transformer(folder / "model.onnx")))
    context = small_context(folder, reference=model)
    few = {"min_duration_ms": 50, "min_count": 20, "warmup_ms": 10, "max_warmup_ms": 50}
    few |= {"cold_starts": 1}
    wide = Profile(operators=True, batches=(2,), affinity=(0,), **few)
    names = ("input_ids", "attention_mask", "token_type_ids")
    np.savez(folder / "inputs.npz", **{name: np.ones((1, 8), np.int64) for name in names})
    narrow = Profile(inputs=InputSettings(file=folder / "inputs.npz"), **few)
    found = [stage.observe(model, context) for stage in (wide, narrow, Size())]
    return tuple(each for part in found for each in part)


def test_every_metric_is_explained(measured: tuple[Measurement, ...]) -> None:
    assert named("The metrics") >= {each.metric for each in measured} | set(metrics())


def test_every_condition_is_explained(measured: tuple[Measurement, ...]) -> None:
    conditions = {key for each in measured for key in each.conditions}
    assert {"share", "tokens", "starts", "scenario", "files"} <= conditions
    assert named("The conditions") >= conditions


def test_where_inputs_come_from_is_said(measured: tuple[Measurement, ...]) -> None:
    said = [each.conditions.get("source") for each in measured if each.metric == "latency_p50"]
    assert said == ["signature", "file"]
