"""What the page's parts do in a browser: columns, cards, labels, sorting, the file for a sheet."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browsing import SIDEWAYS, open_page
from hostile_results import HOSTILE, hostile, hostile_flips
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.report import svg
from edgecompress.report.csvfile import table_csv
from edgecompress.report.html import render_html
from edgecompress.report.main_table import build
from edgecompress.report.run_page import run_page
from edgecompress.results import Row, RunResult
from edgecompress.values import Measurement, Step

MAIN = "#all ~ .scroll"
BOXES = """return arguments[0].map(one => one.getBoundingClientRect())
  .map(box => [box.left, box.top, box.right, box.bottom])"""


def boxes(browser: Any, selector: str) -> list[tuple[float, float, float, float]]:
    """Where all elements of a selector stand: left, top, right, bottom."""
    elements = browser.find_elements("css selector", selector)
    return [tuple(box) for box in browser.execute_script(BOXES, elements)]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5


def column(browser: Any, number: int) -> list[str]:
    """What stands in a column of the main table's candidates, from above."""
    cells = f"{MAIN} tbody:last-of-type tr.row > :nth-child({number})"
    return [cell.text.split("\n")[-1] for cell in browser.find_elements("css selector", cells)]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_column_hides_on_a_desk(
    browser: Any, result: RunResult, tmp_path: Path, theme: str
) -> None:
    open_page(browser, render_html(run_page(result)), tmp_path, "desk", theme)
    box = browser.find_element("css selector", MAIN)
    hidden = "return arguments[0].scrollWidth - arguments[0].clientWidth"
    assert browser.execute_script(hidden, box) <= 0
    heads = browser.find_elements("css selector", f"{MAIN} thead th")
    assert len(heads) == 12
    assert all(head.rect["x"] + head.rect["width"] <= 1400 for head in heads)


@pytest.mark.parametrize("width", [1152, 1280, 1366, 1400, 1920])
def test_no_column_hides_beside_wide_intervals(
    browser: Any, result: RunResult, tmp_path: Path, width: int
) -> None:
    drops = tuple(
        Measurement("f1_drop", 0.7524, "fraction", split=split, samples=9, interval=(0.7379, 0.768))
        for split in ("validation", "test")
    )
    row = Row("always the most frequent class", "reference", measurements=drops)
    page = render_html(run_page(replace(result, rows=(row, *result.rows))))
    assert "−76.80 to −73.79" in page
    open_page(browser, page, tmp_path, "desk")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    box = browser.find_element("css selector", MAIN)
    assert browser.execute_script("return arguments[0].scrollWidth", box) <= box.rect["width"]


def test_every_number_is_seen_on_a_phone_without_scrolling_sideways(
    browser: Any, result: RunResult, tmp_path: Path
) -> None:
    open_page(browser, render_html(run_page(result)), tmp_path, "phone")
    assert browser.execute_script(SIDEWAYS) == 0
    winner = browser.find_element("css selector", f"{MAIN} tr.winner")
    for text in ("18.2", "4.97", "3.22", "156"):
        assert text in winner.text
    cell = winner.find_element("css selector", "td[data-label='p50, ms']")
    heading = "return getComputedStyle(arguments[0], '::before').content"
    assert browser.execute_script(heading, cell) == '"p50, ms"'
    for left, _, right, _ in boxes(browser, f"{MAIN} tr.row td:not(.missing)"):
        assert 0 <= left < right <= 390
    names = boxes(browser, f"{MAIN} tr.row th")
    assert all(0 <= left < right <= 390 for left, _, right, _ in names)


@pytest.mark.parametrize("width", ["phone", "desk"])
def test_labels_of_points_do_not_overlap(
    browser: Any, result: RunResult, tmp_path: Path, width: str
) -> None:
    open_page(browser, render_html(run_page(result)), tmp_path, width)
    for plot in ("#plot-1", "#plot-2"):
        labels = boxes(browser, f"{plot} text.label")
        texts = [one.text for one in browser.find_elements("css selector", f"{plot} text.label")]
        keys = [key for text in texts for key in text.split(", ")]
        assert sorted(keys) == sorted({*keys}), "a point has two labels"
        assert len(keys) == 11
        for index, one in enumerate(labels):
            assert not any(overlap(one, other) for other in labels[index + 1 :]), texts[index]
        for tick in boxes(browser, f"{plot} text.tick"):
            assert not any(overlap(tick, one) for one in labels)
    marks = browser.find_elements("css selector", "#plot-1 .mark title")
    said = marks[0].get_attribute("textContent")
    assert "Size" in said
    assert "points" in said


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(1, 30), st.floats(60, 90)), min_size=2, max_size=20, unique=True)
)
def test_labels_of_any_points_stay_apart_and_inside(points: list[tuple[float, float]]) -> None:
    x = svg.logarithmic([point[0] for point in points], "x")
    y = svg.linear([point[1] for point in points], "y")
    marks = [
        svg.Mark(a, b, "#123456", ("hover",), label=str(number))
        for number, (a, b) in enumerate(points)
    ]
    spots = [
        (
            svg.LEFT + x.share(a) * (svg.WIDTH - svg.LEFT - svg.RIGHT),
            svg.HEIGHT - svg.BOTTOM - y.share(b) * (svg.HEIGHT - svg.TOP - svg.BOTTOM),
        )
        for a, b in points
    ]
    assert all(svg.LEFT <= a <= svg.WIDTH and 0 <= b <= svg.HEIGHT for a, b in spots)
    assert len(x.ticks) >= 2
    assert len(y.ticks) >= 3
    placed = svg.place_labels(marks, spots)
    assert sorted(key for one in placed for key in one.text.split(", ")) == sorted(
        str(number) for number in range(len(points))
    )
    for index, one in enumerate(placed):
        assert not any(overlap(one.box, other.box) for other in placed[index + 1 :])
        assert one.box[0] >= 0
        assert one.box[2] <= svg.WIDTH


def test_a_table_is_sorted_by_pointer_and_keyboard(
    browser: Any, result: RunResult, tmp_path: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, render_html(run_page(result)), tmp_path, "desk")
    references = [
        row.text for row in browser.find_elements("css selector", f"{MAIN} tbody tr.row")[:3]
    ]
    heads = browser.find_elements("css selector", f"{MAIN} thead th")
    number = next(n for n, head in enumerate(heads, start=1) if head.text.startswith("p50"))
    button = heads[number - 1].find_element("css selector", "button")

    def p50() -> list[float]:
        cells = f"{MAIN} tbody:last-of-type tr.row > :nth-child({number})"
        found = browser.find_elements("css selector", cells)
        return [float(one.text.split("\n")[0][:4]) for one in found if one.text != "–"]

    button.click()
    up = p50()
    assert up == sorted(up)
    assert heads[number - 1].get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert p50() == sorted(up, reverse=True)
    assert heads[number - 1].get_attribute("aria-sort") == "descending"
    last = browser.find_elements("css selector", f"{MAIN} tbody:last-of-type tr.row")[-1]
    assert "failed" in last.text, "what was not measured stands last in either order"
    heads[0].find_element("css selector", "button").click()
    assert heads[number - 1].get_attribute("aria-sort") is None
    names = column(browser, 1)
    assert names == sorted(names)
    rows = [row.text for row in browser.find_elements("css selector", f"{MAIN} tbody tr.row")]
    assert sorted(rows[:3]) == sorted(references), "references stay apart"
    assert browser.get_log("browser") == []


def test_the_reference_is_called_what_it_is(result: RunResult) -> None:
    for exporter, told in (("optimum", "stock export"), ("dynamo", "plain dynamo export")):
        steps = (Step("export", {}, {"exporter": exporter}, 1.0),)
        rows = [
            replace(row, steps=steps) if row.kind == "reference" else row for row in result.rows
        ]
        page = render_html(run_page(replace(result, rows=tuple(rows))))
        assert f"the teacher’s {told}" in page


def test_the_page_is_whole_without_script(browser: Any, result: RunResult, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_page(browser, render_html(run_page(result)), tmp_path, "desk")
        assert browser.find_elements("css selector", "th button") == []
        assert len(browser.find_elements("css selector", f"{MAIN} tr.row")) == 12
        assert len(browser.find_elements("css selector", ".plot .mark title")) == 2 * 11
        spread = browser.find_elements("css selector", "#spread ~ .strips .strip[data-tip]")
        assert len(spread) == 11
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_parts_say_what_they_show(result: RunResult) -> None:
    page = render_html(run_page(result))
    assert "28 November 2026, 09:05 UTC, took 12 min" in page
    assert "edgecompress.load(&#34;bundle&#34;)" in page
    assert "Words of the test split" in page
    assert "PER answered as LOC: 12 of 1,540" in page
    assert "1 of " in page and "readings lie beyond the axis" in page
    assert "by 2" not in page.partition("misses budget")[2][:200]
    bare = replace(result, started="", seconds=0.0, answers={}, winner=None)
    page = render_html(run_page(bare))
    for text in ("took", "edgecompress.load", "What it takes for what", "Answers that changed"):
        assert text not in page


@pytest.mark.parametrize(
    "answers",
    [
        {"classes": 3, "rows": []},
        {"classes": ["a"], "rows": {"teacher": [[1, 2]]}},
        {"classes": ["a"], "rows": {"teacher": [["x"]]}, "split": None},
        {"classes": [], "rows": {}},
    ],
)
def test_damaged_counts_are_left_out(result: RunResult, answers: dict[str, Any]) -> None:
    assert "What it takes for what" not in render_html(run_page(replace(result, answers=answers)))


def test_the_table_goes_into_a_spreadsheet(result: RunResult) -> None:
    page = render_html(run_page(result))
    link = page.partition('href="data:text/csv;charset=utf-8,')[2].partition('"')[0]
    lines = list(csv.reader(io.StringIO(unquote(link).removeprefix("\ufeff"))))
    assert len(lines) == 1 + len(result.rows)
    heads = lines[0]
    assert len({len(line) for line in lines}) == 1
    winner = next(line for line in lines if line[0] == result.winner)
    assert float(winner[heads.index("Size, MB")]) == pytest.approx(18.2)
    assert winner[heads.index("Verdict")] == "chosen"
    assert "throttled" in " ".join(next(line for line in lines if "inc_static" in line[0]))
    rows = (replace(result.rows[3], name='=HYPERLINK("x")'), *result.rows[4:])
    text = table_csv(build(replace(result, rows=rows, winner=None)))
    first = [line[0] for line in csv.reader(io.StringIO(text))]
    assert '\'=HYPERLINK("x")' in first
    assert not any(one.startswith(("=", "+", "-", "@")) for one in first)


def test_hostile_texts_do_not_leave_their_place(result: RunResult) -> None:
    page = render_html(run_page(hostile(result), hostile_flips()))
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1
