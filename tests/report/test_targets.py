"""Reports of a run on this machine, a board and two emulated processors; the board falls silent."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import SIDEWAYS, WIDTHS, open_page
from rich.console import Console

from edgecompress.report.blocks import name
from edgecompress.report.details import readings
from edgecompress.report.document import from_json, to_json
from edgecompress.report.facts import gather
from edgecompress.report.headline import headline
from edgecompress.report.html import render_html
from edgecompress.report.main_table import build
from edgecompress.report.markdown import render_markdown
from edgecompress.report.plot import draw
from edgecompress.report.run_page import run_page
from edgecompress.report.table import NOT_MEASURED, Cell, Table
from edgecompress.report.targets import (
    DescribedTarget,
    describe_targets,
    description,
    gap_words,
    gaps,
)
from edgecompress.report.targets_table import differing, targets_table
from edgecompress.report.terminal import render_terminal
from edgecompress.report.variants import in_floating_point, variant_tables
from edgecompress.report.words import limit_words, title, with_unit
from edgecompress.results import Limit, RunResult
from edgecompress.values import Measurement

A72 = "emulated://cortex-a72"
TARGETS = ("local", "pi5", "x86-avx2", A72)
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def terminal(result: RunResult, width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for part in render_terminal(run_page(result)):
        console.print(part)
    return out.getvalue()


def wide(result: RunResult) -> Table:
    facts = gather(result)
    found = targets_table(facts, describe_targets(result, facts))
    assert found is not None
    return found


def cells(table: Table, name: str, target: str) -> dict[str, str]:
    group = next(part for part in table.parts if part.key == name)
    line = next(line for line in group.lines if line.name == target)
    return {
        column.key: f"{cell.text}|{cell.detail}".rstrip("|")
        for column, cell in zip(table.columns, line.cells, strict=True)
    }


def by_name(table: Table) -> dict[str, tuple[Cell, ...]]:
    return {line.name: line.cells for line in table.lines}


def test_each_target_has_its_own_numbers(several: RunResult) -> None:
    table = wide(several)
    assert gather(several).targets == TARGETS
    here = cells(table, "heads+ffn+static", "local")
    assert here["latency"] == "3.22|3.17–3.27"
    assert here["differs"] == "–"
    board = cells(table, "heads+ffn+static", "pi5")
    assert board["latency"] == "14.8|14.6–15.1"
    assert board["memory"] == "78.2"
    assert board["temperature"] == "61.3"
    assert board["energy"] == "60.7"
    assert board["instructions"] == "–"
    old = cells(table, "heads+ffn+static", "x86-avx2")
    assert old["latency"] == old["memory"] == old["energy"] == NOT_MEASURED
    assert (old["accuracy"], old["drop"]) == ("73.78", "−4.54|−5.00 to −4.10")
    assert (old["differs"], old["host"]) == ("3.91", "−3.91|−5.87 to −2.35")
    assert old["instructions"] == "271"
    assert cells(table, "heads+ffn+static", A72)["differs"] == "0"


def test_what_is_not_measured_says_why(several: RunResult) -> None:
    table = wide(several)
    group = next(part for part in table.parts if part.key == "static")
    silent = next(line for line in group.lines if line.name == "pi5")
    latency, accuracy = silent.cells[0], silent.cells[3]
    assert (latency.text, accuracy.text) == (NOT_MEASURED, NOT_MEASURED)
    assert "said nothing for 120 s" in table.footnotes[latency.notes[0] - 1]
    emulated = next(line for line in group.lines if line.name == "x86-avx2")
    assert "wall time and memory" in table.footnotes[emulated.cells[0].notes[0] - 1]
    assert "200 of 1,756 examples" in table.footnotes[emulated.cells[3].notes[0] - 1]
    assert any("counts are not cycles" in text for _, text in table.remarks)


def test_a_reading_that_is_not_valid_is_struck_out(several: RunResult) -> None:
    table = wide(several)
    group = next(part for part in table.parts if part.key == "heads+ffn+inc_static")
    cell = group.lines[0].cells[0]
    assert cell.invalid
    assert "throttled" in table.footnotes[cell.notes[0] - 1]


def test_energy_that_nobody_measured_is_said_once(several: RunResult) -> None:
    def metered(one: Measurement) -> bool:
        return one.metric == "energy"

    rows = tuple(
        replace(row, measurements=tuple(one for one in row.measurements if not metered(one)))
        for row in several.rows
    )
    table = wide(replace(several, rows=rows))
    assert "energy" not in {column.key for column in table.columns}
    assert ("", "Energy is not measured.") in table.remarks
    reason = "no meter: put the user into the group that may read it"
    asked = Measurement("energy", math.nan, "mJ", "pi5", samples=0, invalid=reason)
    rows = (*rows[:-1], replace(rows[-2], measurements=(*rows[-2].measurements, asked)))
    said = [text for _, text in wide(replace(several, rows=rows)).remarks]
    assert f"Energy is not measured: {reason}." in said


def test_what_a_target_did_not_give_is_gathered(several: RunResult) -> None:
    (gap,) = gaps(gather(several))
    whose, why = gap_words(gap)
    assert whose == "pi5: profile, evaluate on validation, evaluate on test of static"
    assert why.startswith("pi@raspberrypi.local: the board said nothing")
    lines = readings(gather(several), next(r for r in several.rows if r.name == "static")).lines
    assert not any(line.name.lower().startswith(("profile", "evaluate")) for line in lines)


def test_numbers_in_running_text_name_their_target(several: RunResult, result: RunResult) -> None:
    head = headline(several, gather(several))
    assert head.sentence == (
        "4.97× smaller and 3.70× faster (3.33× from input to answer) on local than the stock fp32 "
        "export, with 0.63 points of F1 lost on local."
    )
    assert " on local" not in headline(result, gather(result)).sentence
    facts = gather(several)
    assert differing(facts, facts.winner) == (
        "x86-avx2 gives 3.91 % of the answers otherwise: −3.91 points of F1 (−5.87 to −2.35)",
    )


def test_the_first_target_that_was_timed_is_the_main_one(several: RunResult) -> None:
    order = [A72, "pi5", "local"]
    facts = gather(replace(several, recipe={**several.recipe, "targets": order}))
    assert facts.targets == (*order, "x86-avx2")
    assert facts.target == "pi5"


def test_variants_never_stand_for_the_main_figures(several: RunResult, result: RunResult) -> None:
    extra = tuple(
        Measurement(metric, 1e-3, unit, "local", slice=name)
        for metric, unit in (("latency_p50", "ms"), ("speedup", "x"), ("peak_memory", "bytes"))
        for name in ("threads:4", "batch:8", "arena:off", "operator:MatMul", "layer:/a/b")
    )
    rows = tuple(replace(row, measurements=(*extra, *row.measurements)) for row in result.rows)
    varied = replace(result, rows=rows)
    finished = [line.cells for line in build(varied).lines if line.state != "error"]
    assert finished == [line.cells for line in build(result).lines if line.state != "error"]
    facts = gather(varied)
    assert headline(varied, facts).sentence == headline(result, gather(result)).sentence
    ours = draw(varied, facts)
    assert ours == draw(result, gather(result))


def test_other_settings_stand_beside_the_main_one(several: RunResult) -> None:
    facts = gather(several)
    winner = facts.winner
    assert winner is not None
    settings, kinds, operators, nodes = variant_tables(facts, winner)
    lines = by_name(settings)
    names = [column.title for column in settings.columns]
    assert names == ["p50", "Throughput", "Peak mem."]
    assert lines["local: as in the table, 1 thread"][0].text == "3.22"
    assert lines["pi5: 4 threads"][0].text == "5.10"
    assert lines["local: batch 8"][0].invalid
    assert settings.footnotes == ("throttled: too hot",)
    assert lines["local: arena off"][2].text == "120"
    assert [cell.text for cell in by_name(kinds)[f"{A72}: heads+ffn+static"]] == [
        "271", "27.1", "13.5", "83.9",
    ]  # fmt: skip
    assert "not cycles" in kinds.remarks[0][1]
    best = operators.lines[0]
    first, second = best.cells
    assert (best.name, first.text, first.detail) == ("MatMulIntegerToFloat", "1.96", "61%")
    assert second.text == "9.03"
    assert operators.lines[-1].name == "2 others"
    why = "ran in floating point: the quantizer left this as it was"
    (floats,) = in_floating_point(facts, winner)
    assert floats.pairs == ((name("/Attention/a"), why),)
    assert nodes.lines[0].name == "/MatMulIntegerToFloat/a"
    assert len(nodes.lines) == 12


def test_a_run_on_this_machine_alone_looks_as_before(result: RunResult) -> None:
    facts = gather(result)
    alone = replace(
        result, environment={**result.environment, "targets": {"local": {"cpu": "x", "flags": "q"}}}
    )
    assert describe_targets(alone, facts) == ()
    assert targets_table(facts, ()) is None
    assert variant_tables(facts, facts.winner) == ()
    assert render_markdown(run_page(alone)) == render_markdown(run_page(result))
    assert render_html(run_page(alone)) == render_html(run_page(result))
    assert "every target" not in render_html(run_page(result))[:200_000].lower()


def test_targets_are_described(several: RunResult) -> None:
    here, board, old, unknown = describe_targets(several, gather(several))
    assert board.title == "Raspberry Pi 5 Model B Rev 1.0 · Cortex-A76"
    assert board.isa == ("dotprod", "fp16")
    assert board.harness == "11.2 µs per call, median of 9 jobs"
    facts = {fact.name: fact.value for fact in board.facts}
    assert facts["memory"] == "8.45 GB"
    assert facts["libraries"] == "onnxruntime 1.31.1, numpy 2.4.0"
    assert facts["energy meters"] == "pmic"
    assert old.emulated
    assert not here.emulated
    assert unknown.error.startswith(A72)


@pytest.mark.parametrize("document", [{}, {"libraries": {}, "meters": None, "isa": None}])
def test_a_description_may_lack_anything(document: dict[str, Any]) -> None:
    assert all(fact.name for fact in description(document))


def test_a_target_of_which_nothing_is_known_is_still_named(several: RunResult) -> None:
    bare = replace(several, environment={})
    assert [place.name for place in describe_targets(bare, gather(bare))] == list(TARGETS)
    assert isinstance(describe_targets(bare, gather(bare))[0], DescribedTarget)
    assert "Where and on what" in render_html(run_page(bare))


def test_units_of_what_targets_measure() -> None:
    assert with_unit(61.32, "°C") == "61.3 °C"
    assert with_unit(12.04, "mJ") == "12.0 mJ"
    assert with_unit(88.6, "1/s") == "88.6 per s"
    assert with_unit(270_613_402, "count") == "270,613,402"
    assert title("f1_host_drop") == "F1 lost against the host"
    assert (
        limit_words(Limit("energy", "pi5", max=50)) == "Energy per inference on pi5 at most 50 mJ"
    )
    text = "Instructions per inference on a72 at most 5,000,000"
    assert limit_words(Limit("instructions", "a72", max=5e6)) == text


def test_results_on_several_targets_are_read_back(several: RunResult) -> None:
    again = from_json(to_json(several))
    assert to_json(again) == to_json(several)
    assert render_markdown(run_page(again)) == render_markdown(run_page(several))


def test_markdown_holds_every_target(several: RunResult) -> None:
    text = render_markdown(run_page(several))
    assert "On `local`:" in text
    assert "|  | pi5 | 14.8 (14.6–15.1) |" in text
    assert "Instructions per inference of `heads+ffn+static`" in text
    assert "- pi5: profile, evaluate on validation, evaluate on test of static: " in text
    assert "harness 11.2 µs per call" in text
    for table in text.split("\n\n"):
        bars = {
            line.replace("\\|", "").count("|")
            for line in table.splitlines()
            if line.startswith("|")
        }
        assert len(bars) <= 1


@pytest.mark.parametrize("width", [60, 80, 110, 180])
def test_the_terminal_keeps_to_its_width(several: RunResult, width: int) -> None:
    text = terminal(several, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "On every target" in text
    assert "x86-avx2" in text
    assert "3.91" in text
    if width >= 80:
        line = next(line for line in text.splitlines() if line.startswith("  pi5"))
        assert "54.7" in line


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_person_sees(browser: Any, several: RunResult, tmp_path: Path, width: str) -> None:
    open_page(browser, render_html(run_page(several)), tmp_path, width)
    assert browser.execute_script(SIDEWAYS) == 0, "the page scrolls sideways"
    assert browser.get_log("browser") == []
    rows = browser.find_elements("css selector", ".across tr.row")
    shown = [row for row in rows if row.is_displayed()]
    assert [row.find_element("css selector", "th").text for row in shown] == [*TARGETS] * 2
    assert "14.8" in shown[5].text
    assert "not\nmeasured" in shown[6].text or "not measured" in shown[6].text
    marks = browser.find_elements("css selector", "#across ~ .across sup a")
    for mark in marks:
        number = mark.get_attribute("href").partition("#")[2]
        assert browser.find_elements("id", number)
    browser.execute_script("document.querySelector('[aria-labelledby=across] details').open = true")
    rest = [row for row in rows if row.is_displayed()]
    assert len(rest) == 8 + 1 + 4 * 8
    cards = browser.find_elements("css selector", ".place")
    assert [card.find_element("css selector", "h3").text for card in cards] == [*TARGETS]
    assert "11.2 µs per call" in cards[1].text
    assert "not described" in cards[3].text
    settings = browser.find_element("css selector", ".side")
    assert "4 threads" in settings.text
    assert browser.execute_script(SIDEWAYS) == 0


def test_hostile_targets_are_only_text(browser: Any, several: RunResult, tmp_path: Path) -> None:
    def evil(one: Measurement) -> Measurement:
        target = f"{one.target}{HOSTILE}" if one.target else None
        slice_ = f"{one.slice}{HOSTILE}" if one.slice else None
        return replace(one, target=target, slice=slice_, invalid=HOSTILE if one.invalid else None)

    rows = tuple(
        replace(row, measurements=tuple(map(evil, row.measurements))) for row in several.rows
    )
    named = {f"{name}{HOSTILE}": {"error": HOSTILE} for name in TARGETS}
    named[f"pi5{HOSTILE}"] = {"board": HOSTILE, "isa": [HOSTILE], "libraries": {"numpy": HOSTILE}}
    page = render_html(run_page(replace(several, rows=rows, environment={"targets": named})))
    open_page(browser, page, tmp_path, "phone")
    bold = ".plot text tspan[style*=bold]"
    assert browser.find_elements("css selector", f"img, body b:not(.bar b), {bold}") == []
    assert browser.execute_script(SIDEWAYS) == 0
    assert browser.get_log("browser") == []
