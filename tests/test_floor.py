"""A model must beat what answers every example alike: the rule, and a whole run of it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from commands import in_process
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.choose import beats_floor, choose
from edgecompress.report.document import from_json
from edgecompress.report.html import render_html
from edgecompress.report.markdown import render_markdown
from edgecompress.report.run_page import run_page
from edgecompress.results import Limit, Row
from edgecompress.targets.accuracy import accuracy_measurements
from edgecompress.tasks import Answers, task
from edgecompress.texts import label_of, text_example
from edgecompress.values import Example, Measurement

KIND = task("text-classification")
FLOOR = "always the most frequent class"
LABELS = ("neg", "neu", "pos")


def drawn(chance: random.Random, count: int) -> list[Example]:
    weights = [chance.random() + 0.05 for _ in LABELS]
    labels = chance.choices(LABELS, weights, k=count)
    return [text_example(text=str(n), label=label) for n, label in enumerate(labels)]


def answers(labels: list[str]) -> Answers:
    return Answers(tuple((one,) for one in labels), (np.ones(1),) * len(labels))


def measured(
    name: str, labels: list[str], examples: list[Example], kind: str = "candidate", **more: float
) -> Row:
    """Score answers as `evaluate` does, the floor being counted on the examples themselves."""
    floor = KIND.floor(examples, None)
    assert floor is not None
    found = accuracy_measurements(
        KIND, answers(labels), None, examples, LABELS, "validation", "local", 7,
        floor=floor.answers(examples),
    )  # fmt: skip
    size = Measurement("size", more.get("size", 1e6), "bytes")
    return Row(name, kind, measurements=(*found, size))  # type: ignore[arg-type]


def right(examples: list[Example], chance: random.Random, share: float, other: str) -> list[str]:
    return [label_of(one) if chance.random() < share else other for one in examples]


@given(st.integers(0, 10_000), st.integers(5, 80), st.sampled_from(("floor", "guess", "worst")))
@settings(max_examples=40)
def test_a_teacher_at_or_below_the_floor_leaves_it_undecided(seed, count, how) -> None:
    chance = random.Random(seed)
    examples = drawn(chance, count)
    most = KIND.floor(examples, None).answers(examples).labels[0][0]  # type: ignore[union-attr]
    others = [label for label in LABELS if label != most]
    said = {
        "floor": [most] * count,
        "guess": [
            right if right != most and n % 9 == 0 else most if n % 2 else others[0]
            for n, right in enumerate(map(label_of, examples))],
        "worst": [others[0]] * count,
    }[how]  # fmt: skip
    teacher = measured("teacher", said, examples, "reference", size=9e6)
    if how == "guess" and teacher.measurements[0].value > sum(
        label_of(one) == most for one in examples
    ) / len(examples):
        return  # by chance it knows more
    perfect = measured("good", [label_of(one) for one in examples], examples)
    for budget in ((), (Limit("size", max=2e6),), (Limit("size", max=1.0),)):
        rows, winner, nearest, verdict = choose(
            [teacher, perfect], budget, "size", "accuracy", FLOOR
        )
        assert winner is None
        assert (nearest, verdict.state) == ("good", "undecided")
        assert f"the teacher does not beat «{FLOOR}»" in verdict.reason
        assert "teacher.finetune" in verdict.reason
        assert rows[1].verdicts[-1].limit == "floor"


@given(st.integers(0, 10_000), st.integers(60, 200))
@settings(max_examples=25)
def test_a_teacher_that_knows_is_believed_and_a_candidate_that_does_not_cannot_win(seed, count):
    chance = random.Random(seed)
    examples = drawn(chance, count)
    labels = [label_of(one) for one in examples]
    if max(map(labels.count, LABELS)) > 0.8 * count:
        return  # nearly all are of one class: little is left to beat
    most = KIND.floor(examples, None).answers(examples).labels[0][0]  # type: ignore[union-attr]
    teacher = measured("teacher", labels, examples, "reference", size=9e6)
    broken = measured("broken", [most] * count, examples, size=1e5)
    good = measured("good", right(examples, chance, 0.97, most), examples, size=1e6)
    rows, winner, _, verdict = choose([teacher, broken, good], (), "size", "accuracy", FLOOR)
    assert (winner, verdict.state) == ("good", "pass")
    lost = next(row for row in rows if row.name == "broken")
    assert f"broken does not beat «{FLOOR}»" in str(lost.lost)
    _, winner, nearest, verdict = choose([teacher, broken], (), "size", "accuracy", FLOOR)
    assert (winner, nearest, verdict.state) == (None, "broken", "undecided")


def test_a_lead_that_chance_can_give_is_none() -> None:
    examples = [text_example(text=str(n), label="neg" if n < 21 else "pos") for n in range(40)]
    said = ["neg"] * 39 + ["pos"]  # one more right than always «neg»
    lucky = measured("teacher", said, examples, "reference")
    found = beats_floor(lucky, "accuracy", FLOOR)
    assert found is not None
    assert "for certain: +2.50 points" in found.reason
    sure = measured("teacher", [label_of(one) for one in examples], examples, "reference")
    assert beats_floor(sure, "accuracy", FLOOR) is None
    assert beats_floor(Row("a", "candidate"), "accuracy", FLOOR) is None  # nothing was measured


def test_a_small_sample_on_a_board_decides_nothing() -> None:
    def lead(samples: int, low: float, target: str) -> Measurement:
        return Measurement(
            "f1_over_floor", 0.2, "fraction", target, "validation",
            samples=samples, interval=(low, 0.4),
        )  # fmt: skip

    row = Row("a", "candidate", measurements=(lead(30, -0.1, "pi"), lead(900, 0.1, "local")))
    assert beats_floor(row, "f1", FLOOR) is None
    row = Row("a", "candidate", measurements=(lead(900, -0.1, "pi"), lead(900, 0.1, "local")))
    assert beats_floor(row, "f1", FLOOR) is not None


RECIPE = """\
name: untaught
task: text-classification
teacher:
  new: {layers: 1, hidden_size: 16, heads: 2, intermediate_size: 16, vocabulary: 200}
  finetune: {epochs: 1, learning_rate: 1.0e-12}  # it learns nothing
data: {format: tsv, root: ., train: train.tsv, validation: validation.tsv, test: test.tsv}
seed: 3
stages: [export]
profile: {min_duration_ms: 100, max_warmup_ms: 20, min_count: 20, cold_starts: 0, attempts: 1}
minimize: size
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untaught")
    chance = random.Random(5)
    for name, count in (("train", 60), ("validation", 40), ("test", 40)):
        rows = [f"{chance.random()} leo {name}\t{chance.choice('aab')}" for _ in range(count)]
        rows += ["ni siku njema\tb"] * (name != "train")
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (folder / "r.yaml").write_text(RECIPE)
    return folder


def test_a_run_with_an_untaught_teacher_says_so_everywhere(place: Path) -> None:
    done = in_process(
        "run", place / "r.yaml", "-o", place / "out", "--store", place / "store", COLUMNS="200"
    )
    assert done.returncode == 4, done.stderr
    result = from_json((place / "out" / "results.json").read_text())
    assert result.floor == FLOOR
    row = next(row for row in result.rows if row.name == FLOOR)
    assert {one.split for one in row.measurements} == {"validation", "test"}
    assert all(one.target is None for one in row.measurements)
    assert result.data["floor"] == {"answers": "«a»", "from": "train"}
    assert result.data["overlaps"][-1] == {
        "of": "test", "within": "validation", "exact": 1, "normalised": 1, "examples": 41,
    }  # fmt: skip
    assert not (place / "out" / "bundle").exists()
    for text in (done.stdout, render_html(run_page(result)), render_markdown(run_page(result))):
        said = " ".join(text.replace("&lt;", "<").split())
        assert FLOOR in said
        assert "The teacher does not beat" in said
        assert "teacher.finetune" in said
        assert "1 of 41 examples of test" in said
    assert 'class="badge error"' in (place / "out" / "report.html").read_text()


def test_evaluate_says_what_answering_all_alike_scores(place: Path) -> None:
    (model,) = (place / "out" / "candidates").iterdir()
    done = in_process(
        "evaluate", model, "--recipe", place / "r.yaml", "--split", "test",
        "--store", place / "store", COLUMNS="200",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"«{FLOOR}» («a», counted in train) has" in done.stdout
    assert "accuracy_over_floor" in done.stdout
    assert "does not beat that" in done.stdout
