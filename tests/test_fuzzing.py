"""Hostile inputs of every kind, a sample with fixed seeds: each ends in one clear sentence.

`benchmarks/fuzz.py` tries as many as asked; a fault that it finds is made again from its seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import generators, make_case
from fuzzing.judge import LAST_RESORT, Outcome, Outside, Server, alone, faults
from fuzzing.stock import Stock

SAMPLE = 12
SLOW = {"arrays": 5, "images": 5, "meters": 2, "onnx": 5, "tables": 5, "tokenizers": 5}
"""Kinds whose commands run a model; the others only read."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def stock(place: Path) -> Stock:
    (place / "stock").mkdir()
    return Stock(place / "stock")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    made = Server(place / "home")
    yield made
    made.close()


@pytest.mark.parametrize("kind", generators())
def test_hostile_inputs(kind: str, server: Server, stock: Stock, place: Path) -> None:
    wrong: list[str] = []
    refused = 0
    for seed in range(SLOW.get(kind, SAMPLE)):
        folder = place / f"{kind}-{seed}"
        case = make_case(kind, seed, folder, stock)
        outcome = server.try_case(case, folder)
        refused += outcome.code != 0
        found = [fault for fault in faults(case, outcome) if fault != "late"]
        wrong += [f"{kind} {seed} ({case.told}): {fault}\n{outcome.message}" for fault in found]
    assert not wrong, "\n".join(wrong)
    assert refused or kind == "meters", "no case was refused: the inputs are not hostile"


def test_a_process_of_its_own_answers_as_a_fork_does(
    server: Server, stock: Stock, place: Path
) -> None:
    for seed in (3, 5):
        folder = place / f"twice-{seed}"
        case = make_case("recipes", seed, folder, stock)
        forked = server.try_case(case, folder)
        own = alone(case, folder, place / "home")
        assert (own.code, own.message) == (forked.code, forked.message)


def test_the_judge_sees_faults(stock: Stock, place: Path) -> None:
    case = make_case("recipes", 0, place / "judged", stock)

    def judged(code: int, err: str, peak: int = 0) -> list[str]:
        return faults(case, Outcome(code, 0.1, peak, False, "", err))

    assert judged(2, "edgecompress: recipe.yaml:3: seed: not a number\n") == []
    assert judged(2, "Usage: edgecompress x\nTry this.\n\nError: no recipe.yaml\n") == []
    assert judged(1, "Traceback (most recent call last):\n  …\nKeyError: 3\n") == ["traceback"]
    assert judged(1, f"edgecompress: {LAST_RESORT} (KeyError: 3)")[0].startswith("traceback")
    assert judged(70, "") == ["exit code 70"]
    assert judged(2, "edgecompress: something is wrong\n") == ["names nothing"]
    assert judged(2, "edgecompress: recipe.yaml: a\nb\n") == ["several lines"]
    assert judged(0, "", 2**31) == ["memory"]


def test_the_judge_sees_what_is_read_and_written_outside(tmp_path: Path) -> None:
    place = tmp_path / "case"
    (place / "outside").mkdir(parents=True)
    for name in ("left", "read", "changed"):
        (place / "outside" / name).write_text("secret\n")
    outside = Outside(place)
    assert outside.seen() == ()
    (place / "outside" / "read").read_bytes()
    (place / "outside" / "changed").write_text("new\n")
    (place / "outside" / "new").touch()
    (place / "out").mkdir()
    (place / "other").touch()
    (tmp_path / "strayed1").touch()
    seen = set(outside.seen())
    if not os.statvfs(place).f_flag & os.ST_NOATIME:
        assert "read outside: read" in seen
    assert seen - {"read outside: read"} == {
        "changed outside: changed", "written outside: new", "written outside: other",
        f"written outside: {tmp_path.name}/strayed1",
    }  # fmt: skip
    assert not (tmp_path / "strayed1").exists()
