"""Choosing: budgets, dominance, the winner and why each other lost."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgecompress.choose import choose, judge, objective, overall, pareto
from edgecompress.report.facts import shortfall
from edgecompress.results import Limit, Row
from edgecompress.values import Measurement


def row(name: str, size: float, latency: float, f1: float, **kinds: object) -> Row:
    found = (
        Measurement("size", size, "bytes"),
        Measurement("latency_p50", latency, "ms", target="local", invalid=kinds.get("invalid")),  # type: ignore[arg-type]
        Measurement("f1", f1, "fraction", target="local", split="validation"),
        Measurement("f1", 0.0, "fraction", target="local", split="test"),
        Measurement("f1", 0.1, "fraction", target="local", split="validation", slice="label:PER"),
    )
    return Row(name, kinds.get("kind", "candidate"), measurements=found)  # type: ignore[arg-type]


TEACHER = row("teacher", 100e6, 20.0, 0.80, kind="reference")


def state(candidate: Row, limit: Limit) -> str:
    return judge(candidate, limit, TEACHER).state


def test_each_kind_of_bound():
    candidate = row("a", 10e6, 5.0, 0.79)
    assert state(candidate, Limit("size", max=10e6)) == "pass"
    assert state(candidate, Limit("size", max=9e6)) == "fail"
    assert state(candidate, Limit("f1", min=0.79)) == "pass"
    assert state(candidate, Limit("f1", min=0.8)) == "fail"
    assert state(candidate, Limit("f1", max_drop=0.0101)) == "pass"
    assert state(candidate, Limit("f1", max_drop=0.009)) == "fail"
    assert state(candidate, Limit("latency_p50", target="local", max_ratio=0.25)) == "pass"
    assert state(candidate, Limit("latency_p50", max_ratio=0.2)) == "fail"
    assert state(candidate, Limit("f1", min_ratio=0.98)) == "pass"


def sliced(name: str, drops: dict[str, float], **of: object) -> Row:
    made = row(name, 8e6, 5.0, 0.80, **of)
    at = {"target": "local", "split": "validation"}
    parts = [
        Measurement(metric, value, "fraction", **at, slice=f"file:{file}")  # type: ignore[arg-type]
        for file, drop in drops.items()
        for metric, value in (("f1", 0.80 - drop), ("f1_drop", drop))
    ]
    whole = [one for one in made.measurements if one.slice is None]
    return replace(made, measurements=(*whole, *parts))


def test_every_file_must_keep_what_is_bounded_for_each():
    teacher = sliced("teacher", {"hau": 0.0, "pcm": 0.0}, kind="reference")
    candidate = sliced("a", {"hau": 0.002, "pcm": 0.034})
    whole, each = Limit("f1", max_drop=0.01), Limit("f1", max_drop=0.015, each="file")
    assert judge(candidate, whole, teacher).state == "pass"
    verdict = judge(candidate, each, teacher)
    assert (verdict.limit, verdict.state) == ("f1 by file", "fail")
    text = "f1@local of pcm: 3.40 points, allowed a drop of at most 1.50 points"
    assert verdict.reason == text
    assert (
        shortfall(verdict) == "F1 of every file: 3.40 points, allowed a drop of at most 1.50 points"
    )
    kept = judge(candidate, replace(each, max_drop=0.035), teacher)
    assert (kept.state, kept.reason) == ("pass", "f1 of every file is within its limit")
    assert judge(candidate, Limit("f1", min=0.77, each="file"), teacher).state == "fail"
    assert judge(candidate, replace(each, each="label"), teacher).state == "undecided"
    spoilt = tuple(
        replace(one, invalid="no reading") if one.slice == "file:hau" else one
        for one in candidate.measurements
    )
    open_ = judge(replace(candidate, measurements=spoilt), replace(each, max_drop=0.05), teacher)
    assert open_.state == "undecided"


def test_missing_and_invalid_are_undecided_never_passed():
    candidate = row("a", 10e6, 5.0, 0.79, invalid="throttled")
    assert state(candidate, Limit("latency_p50", target="local", max=50.0)) == "undecided"
    assert state(candidate, Limit("latency_p50", target="ssh://pi", max=50.0)) == "undecided"
    assert state(candidate, Limit("energy", max=1.0)) == "undecided"
    verdict = judge(candidate, Limit("f1", max_drop=0.5), None)
    assert verdict.state == "undecided"


def test_the_winner_is_the_smallest_that_passes_and_losers_know_why():
    rows = (
        TEACHER,
        row("big", 20e6, 4.0, 0.80),
        row("small", 5e6, 6.0, 0.70),
        row("good", 8e6, 5.0, 0.79),
    )
    judged, winner, _, verdict = choose(rows, [Limit("f1", max_drop=0.02)], "size", "f1")
    assert (winner, verdict.state) == ("good", "pass")
    lost = {r.name: r.lost for r in judged}
    assert lost["good"] is None
    assert lost["teacher"] is None
    assert "10.00 points" in str(lost["small"])
    assert "20.00 MB" in str(lost["big"])
    assert "8.00 MB" in str(lost["big"])


def test_only_validation_chooses():
    rows = (TEACHER, row("a", 8e6, 5.0, 0.79))
    _, winner, _, _ = choose(rows, [Limit("f1", min=0.5)], "size", "f1")
    assert winner == "a"  # test says 0.0


def test_nothing_passes_names_the_nearest():
    rows = (TEACHER, row("a", 8e6, 5.0, 0.70), row("b", 8e6, 5.0, 0.75))
    _, winner, _, verdict = choose(rows, [Limit("f1", min=0.79)], "size", "f1")
    assert winner is None
    assert verdict.state == "fail"
    assert "nearest is b" in verdict.reason


def test_a_failed_chain_cannot_win():
    broken = Row("x", "candidate", error="export: no")
    judged, winner, _, verdict = choose((TEACHER, broken), [], "size", "f1")
    assert winner is None
    assert verdict.state == "fail"
    assert judged[1].lost == "export: no"


values = st.floats(0.1, 100, allow_nan=False)


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=12))
def test_the_front_is_never_empty_and_never_dominated(points):
    rows = [row(str(i), *point) for i, point in enumerate(points)]
    front = pareto(rows, ["size", "latency_p50", "f1"])
    assert front
    for name in front:
        mine = rows[int(name)]
        for other in rows:
            better = [
                (objective(other, m) or 0.0) <= (objective(mine, m) or 0.0)
                for m in ("size", "latency_p50", "f1")
            ]
            strictly = any(
                (objective(other, m) or 0.0) < (objective(mine, m) or 0.0)
                for m in ("size", "latency_p50", "f1")
            )
            assert not (all(better) and strictly)


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=8), values)
def test_the_winner_keeps_the_budget_and_no_passing_row_is_smaller(points, bound):
    rows = (TEACHER, *(row(str(i), *point) for i, point in enumerate(points)))
    judged, winner, _, verdict = choose(rows, [Limit("latency_p50", max=bound)], "size", "f1")
    passing = [r for r in judged if r.kind == "candidate" and overall(r.verdicts).state == "pass"]
    assert (winner is None) == (not passing)
    if winner:
        best = next(r for r in judged if r.name == winner)
        assert objective(best, "size") == min(objective(r, "size") or math.inf for r in passing)
        assert verdict.state == "pass"


def on_targets(values: dict[str, float], **more: Measurement) -> Row:
    found = [Measurement("f1", v, "fraction", t, "validation") for t, v in values.items()]
    return Row("a", "candidate", measurements=(*found, *more.values()))


def test_a_limit_without_a_target_must_be_kept_on_every_one():
    limit = Limit("f1", min=0.75)
    assert state(on_targets({"local": 0.80, "pi": 0.76}), limit) == "pass"
    verdict = judge(on_targets({"local": 0.80, "avx2": 0.70}), limit, TEACHER)
    assert verdict.state == "fail"
    assert verdict.reason.startswith("f1@avx2: 70.00 points")
    assert state(on_targets({"local": 0.8, "avx2": 0.7}), Limit("f1", "local", min=0.75)) == "pass"


def test_a_target_that_fell_silent_leaves_a_limit_undecided_with_its_reason():
    silent = Measurement(
        "evaluate", math.nan, "count", "pi", "validation", invalid="pi: lost; the same command"
    )
    row = on_targets({"local": 0.80}, silent=silent)
    verdict = judge(row, Limit("f1", min=0.75), TEACHER)
    assert verdict.state == "undecided"
    assert "f1@pi: lost" in verdict.reason
    assert state(row, Limit("f1", "local", min=0.75)) == "pass"
    assert state(row, Limit("f1", min=0.85)) == "fail"  # worse than undecided


def test_a_drop_is_the_paired_one_where_a_target_answered_a_sample():
    paired = Measurement("f1_drop", 0.002, "fraction", "pi", "validation")
    row = on_targets({"pi": 0.70}, paired=paired)  # 0.10 under the teacher's on all examples
    assert state(row, Limit("f1", max_drop=0.01)) == "pass"


def test_the_teacher_is_not_compared_across_targets():
    found = (Measurement("latency_p50", 5.0, "ms", "pi"),)
    row = Row("a", "candidate", measurements=found)
    verdict = judge(row, Limit("latency_p50", "pi", max_ratio=0.5), TEACHER)
    assert verdict.state == "undecided"
    assert "latency_p50@pi is not known" in verdict.reason


def test_the_nearest_is_named_and_given():
    rows = (TEACHER, row("a", 10e6, 5.0, 0.5), row("b", 12e6, 5.0, 0.7))
    _, winner, nearest, verdict = choose(rows, [Limit("f1", min=0.75)], "size", "f1")
    assert winner is None
    assert nearest == "b"
    assert verdict.reason.startswith("nearest is b:")
