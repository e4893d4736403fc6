"""A metric is declared once, by its task, and is then found wherever metrics are named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecompress import all_metrics as declared
from edgecompress import tasks
from edgecompress.choose import choose
from edgecompress.engine.recipe import build_recipe
from edgecompress.errors import RecipeError
from edgecompress.machine_metrics import MACHINES
from edgecompress.metrics import Metric
from edgecompress.report.document import from_json, to_json
from edgecompress.report.html import render_html
from edgecompress.report.markdown import render_markdown
from edgecompress.report.run_page import run_page
from edgecompress.results import Limit, Row, RunResult
from edgecompress.targets.accuracy import accuracy_measurements
from edgecompress.tasks import Answers, Task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import value_of
from edgecompress.texts import text_example
from edgecompress.values import Measurement
from edgecompress.yamlfile import YamlFile

TOY = '''
"""Guess how long a text is; the answer is a number of letters."""
from edgecompress.metrics import Metric
from edgecompress.tasks.text_classification import TextClassification


class Lengths(TextClassification):
    name = "text-lengths"
    metrics = (
        Metric(
            "letters_off", "Letters off the mark", "mean distance from the right length",
            unit="letters", needs="answers",
            counts=lambda answer, example: (abs(int(answer.labels[0]) - int(example.target)), 1),
            value=lambda sums: sums[..., 0] / sums[..., 1],
        ),
    )
'''
RIGHT = ["3", "5", "8", "9"] * 30
EXAMPLES = [text_example("x" * int(one), one) for one in RIGHT]


def said(labels: list[str]) -> Answers:
    return Answers(tuple((one,) for one in labels), tuple(np.ones(1) for _ in labels))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task]:
    """The toy task, installed as a package of its own."""
    info = tmp_path / "toy_lengths-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-lengths\nVersion: 1.0\n")
    point = f"[{tasks.GROUP}]\ntext-lengths = toy_lengths:Lengths\n"
    (info / "entry_points.txt").write_text(point)
    (tmp_path / "toy_lengths.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    caches = (tasks._tasks, declared.metrics)
    for cache in caches:
        cache.cache_clear()
    yield tasks.task("text-lengths")
    sys.modules.pop("toy_lengths", None)
    for cache in caches:
        cache.cache_clear()


def result_of(toy: Task) -> RunResult:
    """A run of three models: one exact, one near, one off."""
    teacher = said(RIGHT)
    floor = said(["5"] * len(RIGHT))
    rows = []
    for name, off in (("teacher", 0), ("near", 1), ("far", 7)):
        answers = said([str(int(one) + off) for one in RIGHT])
        against = None if name == "teacher" else teacher
        measured = accuracy_measurements(
            toy, answers, against, EXAMPLES, ("3", "5", "8", "9"), "validation", "local", 0,
            floor=floor,
        )  # fmt: skip
        sizes = (Measurement("size", 1e6, "bytes"), Measurement("latency_p50", 2, "ms", "local"))
        kind = "reference" if name == "teacher" else "candidate"
        rows.append(Row(name, kind, measurements=sizes + measured))  # type: ignore[arg-type]
    budget = (Limit("letters_off", max_drop=2.0),)
    judged, winner, _, verdict = choose(rows, budget, "letters_off", "letters_off", "always 5")
    return RunResult(
        "toy", toy.name, {}, judged, winner, verdict, "letters_off", budget, {}, {}, floor=None
    )


def test_a_budget_names_it(toy: Task) -> None:
    def budget(**bounds: object) -> tuple[Limit, ...]:
        fields = {"name": "x", "model": "m.onnx", "budget": bounds}
        return build_recipe(YamlFile(fields, Path("r.yaml"), {})).budget

    assert budget(letters_off={"max": 2.5}) == (Limit("letters_off", max=2.5),)
    assert budget(letters_off_drop={"max": 12})[0].max == 12  # no fraction: beyond 1 is sound
    with pytest.raises(RecipeError, match="did you mean 'letters_off'"):
        budget(leters_off={"max": 2.5})
    with pytest.raises(RecipeError, match="no unit like ms"):
        budget(letters_off={"max": "3ms"})


def test_it_chooses(toy: Task) -> None:
    found = result_of(toy)
    assert found.winner == "near" and found.verdict.state == "pass"
    far = next(row for row in found.rows if row.name == "far")
    lost = next(one for one in far.measurements if one.metric == "letters_off_drop")
    assert (lost.value, lost.unit) == (7, "letters")  # positive where worse, though lower is better
    lead = next(one for one in far.measurements if one.metric == "letters_off_over_floor")
    assert lead.value < 0 and lead.interval is not None and lead.interval[1] < 0
    assert any("does not beat «always 5»" in one.reason for one in far.verdicts)
    assert any("letters on validation" in one.reason for one in far.verdicts)


def test_the_report_shows_it(toy: Task) -> None:
    found = from_json(to_json(result_of(toy)))
    drawn = run_page(found)
    page, text = render_html(drawn), render_markdown(drawn)
    for shown in (page, text):
        assert "Letters off the mark" in shown
        assert "letters off the mark" in shown  # in the sentence of the verdict
    assert "at most 2 letters over the teacher" in page


def test_a_metric_that_is_no_sum_is_resampled_by_example() -> None:
    def median(answers: Answers, examples: object, labels: object) -> tuple[float, int]:
        values = [float(one.labels[0]) for one in answers]
        return float(np.median(values)), len(values)

    kind = Metric("middle", "Middle", "the median answer", needs="answers", whole=median)
    some = EXAMPLES[:40]
    one, other = said([str(n) for n in range(40)]), said([str(n + 3) for n in range(40)])
    assert value_of(kind, one, some, ()) == (19.5, 40)
    lost, low, high = paired_bootstrap_drop(kind, one, other, some, seed=1, resamples=50)
    assert (lost, low, high) == (3, 3, 3)  # the same examples are drawn for both
    noisy = said([str(n) for n in reversed(range(40))])
    lost, low, high = paired_bootstrap_drop(kind, one, noisy, some, seed=1, resamples=200)
    assert low < lost == 0 < high


def test_what_is_declared_is_consistent() -> None:
    found = declared.metrics()
    assert {one.name for one in MACHINES} < set(found)
    for name in tasks.task_names():
        for one in tasks.task(name).metrics:
            known = found[one.name]
            same = (one.title, one.unit, one.higher_is_better, one.needs)
            assert same == (known.title, known.unit, known.higher_is_better, known.needs)
            assert (one.counts is None) == (one.value is None) == (one.whole is not None)
    for one in found.values():
        assert one.meaning and one.title and one.name.isidentifier()
        if one.of:
            assert found[one.of].difference(one.against) == one


def test_what_nothing_declares_is_named_all_the_same() -> None:
    other = declared.metric("dice_host_drop")
    assert (other.of, other.against, other.title) == ("dice", "host", "Dice lost against the host")
    assert not other.bounded and not declared.metric("dice").needs
