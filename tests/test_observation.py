"""Observers on several targets: boards at once, and what a silent one leaves."""

from __future__ import annotations

import math
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgecompress.all_metrics import is_failure
from edgecompress.engine.observation import descriptions, on_all, open_targets
from edgecompress.engine.recipe import load_recipe
from edgecompress.errors import RecipeError, TargetError
from edgecompress.progress import Reporter, Silent
from edgecompress.targets.base import Job, Progress, Readings
from edgecompress.values import Json, Measurement


@dataclass
class Place:
    """A target whose answers a test gives itself; it says when it was closed."""

    name: str
    on_host: bool = False
    metrics: frozenset[str] = frozenset({"latency", "answers"})
    samples: int | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> Json:
        if self.name == "gone":
            raise TargetError("gone: nothing listens")
        return {"cpu": self.name}

    def fingerprint(self) -> str:
        return self.name

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        raise NotImplementedError

    def close(self) -> None:
        self.closed.set()


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, title: str) -> None:
        self.said.append(title)

    def end(self, note: str) -> None:
        self.said.append(note)

    def advance(self, done: float, total: float, what: str = "") -> None:
        self.said.append(what)


def places(*names: str, here: tuple[str, ...] = ()) -> dict[str, Place]:
    return {name: Place(name, on_host=name in here) for name in names}


def number(name: str) -> tuple[Measurement, ...]:
    return (Measurement("latency_p50", 1.0, "ms", name),)


def test_a_silent_target_spoils_nothing_else() -> None:
    def ask(name: str, tell: Reporter) -> tuple[Measurement, ...]:
        tell.advance(1, 2, "timing")
        if name == "pi5":
            raise TargetError("pi5: the connection was lost")
        return number(name)

    told = Told()
    found = on_all(places("pi4", "here", "pi5", here=("here",)), "profile", ask, told)
    assert [(m.metric, m.target) for m in found] == [
        ("latency_p50", "pi4"), ("latency_p50", "here"), ("profile", "pi5"),
    ]  # fmt: skip
    (lost,) = [one for one in found if is_failure(one)]
    assert lost.invalid
    assert lost.invalid == "pi5: the connection was lost"
    assert math.isnan(lost.value)
    assert told.said[0] == "profile on here"
    assert "pi4 timing" in told.said
    assert "failed: pi5" in told.said[-1]


def test_boards_are_measured_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)  # breaks unless two are there together

    def ask(name: str, tell: Reporter) -> tuple[Measurement, ...]:
        both.wait()
        return number(name)

    assert len(on_all(places("pi4", "pi5"), "profile", ask, Silent())) == 2


def test_what_shares_this_machine_is_measured_one_by_one() -> None:
    busy = threading.Lock()

    def ask(name: str, tell: Reporter) -> tuple[Measurement, ...]:
        assert busy.acquire(blocking=False)
        busy.release()
        return number(name)

    names = ("local", "a72")
    assert len(on_all(places(*names, here=names), "profile", ask, Silent())) == 2


def test_an_interruption_ends_the_connections() -> None:
    boards = places("pi4", "pi5")

    def ask(name: str, tell: Reporter) -> tuple[Measurement, ...]:
        if name == "pi4":
            raise KeyboardInterrupt
        assert boards["pi5"].closed.wait(30)
        return number(name)

    with pytest.raises(KeyboardInterrupt):
        on_all(boards, "profile", ask, Silent())
    assert all(board.closed.is_set() for board in boards.values())


def test_a_target_that_cannot_be_described_says_why() -> None:
    found = descriptions(places("pi4", "gone"))
    assert found["pi4"] == {"cpu": "pi4"}
    assert found["gone"] == {"error": "gone: nothing listens"}


def recipe(folder: Path, more: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(f"name: x\nmodel: m.onnx\nstages: [quantize.dynamic]\n{more}")
    return file


def test_targets_of_a_recipe_are_checked(tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("a72: emulated://cortex-a72\n")
    opened = open_targets(load_recipe(recipe(tmp_path, "targets: [local, a72]\n")))
    assert list(opened) == ["local", "a72"]
    with pytest.raises(RecipeError, match=r"recipe\.yaml:4.*a72"):
        load_recipe(recipe(tmp_path, "targets: [local, a73]\n"))
    with pytest.raises(RecipeError, match="named twice"):
        load_recipe(recipe(tmp_path, "targets: [local, local]\n"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml:4.*no processor"):
        open_targets(load_recipe(recipe(tmp_path, "targets: ['emulated://cortex-a7']\n")))


def test_a_budget_on_what_a_target_cannot_measure(tmp_path: Path) -> None:
    budget = "targets: ['emulated://cortex-a72']\nbudget:\n  {}: {{max: 5ms}}\n"
    key = "latency_p50@emulated://cortex-a72"
    with pytest.raises(RecipeError, match=r"recipe\.yaml:6.*cannot measure latency_p50"):
        open_targets(load_recipe(recipe(tmp_path, budget.format(key))))


@pytest.mark.parametrize(
    ("metric", "lost", "said"),
    [
        ("f1", 0.02, "2 points under the teacher"),
        ("f1", -0.02, "2 points above the teacher"),
        ("perplexity", 0.5, "0.5 above the teacher"),
        ("perplexity", -0.5, "0.5 under the teacher"),
    ],
)
def test_a_loss_is_told_by_which_way_is_worse(metric: str, lost: float, said: str) -> None:
    unit = "fraction" if metric == "f1" else ""

    def ask(name: str, _: Reporter) -> tuple[Measurement, ...]:
        return (Measurement(f"{metric}_drop", lost, unit, name),)

    told = Told()
    on_all(places("here", here=("here",)), "evaluate", ask, told)
    assert re.sub(r"\.?0+(?= )", "", told.said[-1]) == said
