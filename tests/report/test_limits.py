"""The words of a model card on several targets: limits, languages, what was not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecompress.report import evidence
from edgecompress.report.blocks import Head, Page
from edgecompress.report.details import slices
from edgecompress.report.facts import Facts, gather
from edgecompress.report.languages import Language, languages
from edgecompress.report.limits import FEW, few, limits, listed
from edgecompress.report.markdown import render_markdown
from edgecompress.results import Row, RunResult
from edgecompress.values import Measurement


def told(result: RunResult, longest: int | None = 128) -> tuple[str, ...]:
    facts = gather(result)
    row = facts.winner
    assert row is not None
    tables, spoken = slices(facts, row), languages(result, row)
    return limits(result, facts, row, ("O", "B-PER", "I-PER"), tables, spoken, longest)


def winner(result: RunResult) -> tuple[Facts, Row]:
    facts = gather(result)
    assert facts.winner is not None
    return facts, facts.winner


def changed(result: RunResult, **fields: object) -> RunResult:
    """Change the winner's row."""
    rows = tuple(
        replace(row, **fields) if row.name == result.winner else row for row in result.rows
    )
    return replace(result, rows=rows)


def test_limits_follow_from_the_measurements(several: RunResult) -> None:
    text = "\n".join(told(several))
    for line in (
        "It was measured on Hausa, Nigerian Pidgin and Swahili; of any other language nothing",
        "It finds PER, and nothing else.",
        "It is worse than the teacher on test, beyond chance:",
        "It was chosen among 8 candidates by its validation figures",
        "By label it is weakest on DATE",
        "Against the teacher it loses most on pcm: −1.58 points of F1, from 600 examples, where "
        "the budget allows 1 point over all of them.",
        "Not every processor answers alike: x86-avx2 gives 3.91 % of the answers otherwise",
        "On x86-avx2 it was asked 200 of 1,756 examples, a stratified sample.",
        "Times and memory hold for local and pi5 as described above, and for no other machine.",
        "One model was trained, with seed 7",
        "expected calibration error, test",
        "It reads 128 pieces of its tokenizer at once.",
    ):
        assert line in text
    assert "Fewer than" not in text and "The budget is not kept" not in text
    assert not any("pieces" in line for line in told(several, None))


def test_an_interval_around_nothing_is_not_settled(result: RunResult) -> None:
    _, row = winner(result)
    measured = tuple(
        replace(one, interval=(-0.004, 0.006)) if one.metric == "f1_drop" else one
        for one in row.measurements
    )
    text = "\n".join(told(changed(result, measurements=measured)))
    assert "is not settled: the interval on test reaches from −0.60 to +0.40 points of F1" in text
    assert "beyond chance" not in text


def test_a_ratio_can_be_sound_where_times_are_not(result: RunResult) -> None:
    _, row = winner(result)
    disturbed = tuple(
        replace(one, invalid="other load") if one.metric.startswith("latency") else one
        for one in row.measurements
    )
    text = "\n".join(told(changed(result, measurements=disturbed)))
    assert "No time on its own can be trusted here, only its ratio" in text
    nothing = tuple(replace(one, invalid="other load") for one in disturbed)
    assert "No time that can be trusted" in "\n".join(told(changed(result, measurements=nothing)))


def test_parts_with_few_examples_are_not_ranked(result: RunResult) -> None:
    _, row = winner(result)
    measured = tuple(
        replace(one, samples=FEW - 1, value=0.1) if one.slice == "file:pcm" else one
        for one in row.measurements
    )
    small = changed(result, measurements=measured)
    text = "\n".join(told(small))
    assert f"Fewer than {FEW} examples stand behind the figures of pcm ({FEW - 1})" in text
    assert "weakest on pcm" not in text
    facts, row = winner(small)
    assert [line.name for table in slices(facts, row) for line in few(table)] == ["pcm"]


def test_eight_bits_on_one_machine_only(result: RunResult) -> None:
    assert any("8-bit arithmetic differs from processor" in line for line in told(result))
    facts, row = winner(result)
    assert [*evidence.elsewhere(facts, row)] == [
        "No other processor was asked; 8-bit arithmetic differs between processors, so ask yours: "
        "name it under targets."
    ]
    plain = replace(row, steps=())
    assert [*evidence.elsewhere(facts, plain)] == ["No other processor was asked."]


def test_answers_elsewhere_and_what_is_missing(several: RunResult) -> None:
    facts, row = winner(several)
    same, *_ = [line for line in evidence.elsewhere(facts, row) if line.startswith("Every")]
    assert "pi5" in same and "x86-avx2" not in same
    missing = [*evidence.missing(facts, row)]
    assert "Not valid on pi5: latency p50 (batch:8): throttled: too hot." in missing
    assert "Not measured on local: energy per inference." in missing
    assert "Not measured on x86-avx2, which is emulated: time and memory." in missing


def test_a_board_that_fell_silent_is_named(several: RunResult) -> None:
    silent = replace(several, winner="static")
    facts, row = winner(silent)
    (line,) = [one for one in evidence.missing(facts, row) if "pi5" in one]
    assert line.startswith("Not measured: pi5: profile, evaluate on validation, evaluate on test")
    assert "the board said nothing for 120 s" in line


def test_references_stand_beside_the_model(several: RunResult) -> None:
    facts, row = winner(several)
    drawn = {
        table.caption: render_markdown(Page("", Head("t"), (table,), ())).removeprefix("# t\n\n")
        for table in evidence.tables(several, facts, row)
    }
    assert list(drawn)[:3] == [
        "Size and answers", "Speed and memory on local", "Speed and memory on pi5",
    ]  # fmt: skip
    assert "On every target" in drawn and "Other settings" in drawn
    sizes = drawn["Size and answers"]
    assert sizes.startswith("|  | teacher (PyTorch) | onnx-fp32 | **this model** |")
    assert "| Size, MB | 91.2 | 90.4 | 18.2 |" in sizes


@pytest.mark.parametrize(
    ("names", "recipe", "known"),
    [
        (["file:hau", "file:pcm"], {}, [("ha", "Hausa"), ("pcm", "Nigerian Pidgin")]),
        (["file:hau", "file:news"], {}, []),
        (["file:ha", "file:dz"], {}, []),  # may be countries
        (["file:dev"], {}, []),
        (["label:ha"], {}, []),
        (["label:sw", "label:ar"], {"format": "cldr"}, [("ar", "Arabic"), ("sw", "Swahili")]),
        ([], {}, []),
    ],
)
def test_languages_are_known_or_not_named(
    result: RunResult, names: list[str], recipe: dict[str, str], known: list[tuple[str, str]]
) -> None:
    measured = tuple(Measurement("f1", 0.5, "fraction", slice=name) for name in names)
    found = languages(
        replace(result, recipe={"data": recipe}), Row("a", "candidate", (), (), measured)
    )
    assert found.known == tuple(Language(*one) for one in known)


def test_lists_in_words() -> None:
    assert [listed(["a", "b", "c"][:count]) for count in range(4)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
