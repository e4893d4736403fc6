"""The report page in Debian's headless chromium: what a person sees, on a phone and on a desk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import SIDEWAYS, WIDTHS, open_page
from hostile_results import hostile, hostile_flips

from edgecompress.report.html import render_html
from edgecompress.report.run_page import run_page
from edgecompress.results import Row, RunResult, Verdict


def requests(browser: Any) -> list[str]:
    """Give every address that the page asked for."""
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one for one in entries if one["method"] == "Network.requestWillBeSent"]
    return [one["params"]["request"]["url"] for one in sent]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_a_person_sees(
    browser: Any, result: RunResult, tmp_path: Path, width: str, theme: str
) -> None:
    open_page(browser, render_html(run_page(result)), tmp_path, width, theme)
    assert browser.execute_script(SIDEWAYS) == 0, "the page scrolls sideways"
    heading = browser.find_element("id", "verdict")
    assert heading.is_displayed()
    assert heading.text.startswith("4.97× smaller and 3.70× faster")
    assert heading.rect["y"] + heading.rect["height"] < WIDTHS[width][1], "below the fold"
    rows = browser.find_elements("css selector", "#all ~ .scroll tr.row")
    assert len(rows) == 12
    assert all(row.is_displayed() for row in rows)
    assert "heads+ffn+static" in rows[3].text
    assert "chosen" in rows[3].text
    points = browser.find_elements("css selector", ".plot .mark")
    assert len(points) == 2 * 11
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert asked, "the log of requests is empty, so it proves nothing"
    assert all(url.startswith(("file:", "data:")) for url in asked), asked


def test_text_can_be_told_from_its_ground(browser: Any, result: RunResult, tmp_path: Path) -> None:
    page = render_html(run_page(result))
    for theme in ("light", "dark"):
        open_page(browser, page, tmp_path, "phone", theme)
        for selector in ("h1", ".quiet", ".badge.fail", ".plot .tick", ".tile dt"):
            assert browser.execute_script(CONTRAST, selector) >= 4.5, (theme, selector)


CONTRAST = """
const parts = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const element = document.querySelector(arguments[0]);
let ground = element;
const back = e => parts(getComputedStyle(e).backgroundColor);
while (ground.parentElement && back(ground)[3] === 0) ground = ground.parentElement;
const style = getComputedStyle(element);
const a = light(parts(element instanceof SVGElement ? style.fill : style.color));
const b = light(back(ground));
return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
"""


def test_a_reader_of_the_phone_reaches_every_column(
    browser: Any, result: RunResult, tmp_path: Path
) -> None:
    open_page(browser, render_html(run_page(result)), tmp_path, "phone")
    box = browser.find_element("css selector", "#all ~ .scroll")
    browser.execute_script("arguments[0].scrollLeft = 1e6", box)
    first = browser.find_element("css selector", "tr.winner th")
    last = browser.find_element("css selector", "tr.winner td:last-child")
    assert first.rect["x"] >= 0, "the name stays while the numbers scroll"
    assert last.rect["x"] + last.rect["width"] <= WIDTHS["phone"][0]
    assert browser.execute_script(SIDEWAYS) == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_are_only_text(
    browser: Any, result: RunResult, tmp_path: Path, width: str
) -> None:
    open_page(browser, render_html(run_page(hostile(result), hostile_flips())), tmp_path, width)
    assert len(browser.find_elements("css selector", ".flips li")) == 2
    assert browser.find_elements("css selector", ".confusion td.slip")
    assert "<img src=x" in browser.title
    assert browser.find_elements("css selector", "img, body b:not(.bar b)") == []
    assert "{{ 7 * 7 }}" in browser.find_element("css selector", ".lead").text
    assert browser.execute_script(SIDEWAYS) == 0
    assert browser.get_log("browser") == []


def test_nothing_names_a_network_address(result: RunResult) -> None:
    page = render_html(run_page(result))
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page
    assert len(page.encode()) < 500_000
    assert render_html(run_page(result)) == page, "the same result gives the same page"


def test_pages_of_poor_results_are_drawn(result: RunResult) -> None:
    verdict = Verdict("budget", "undecided", "nothing was measured", float("inf"))
    for rows in (
        (),
        (Row("a", "candidate", error="disk full", lost="disk full"),),
        result.rows[:1],
    ):
        page = render_html(run_page(replace(result, rows=rows, winner=None, verdict=verdict)))
        assert "Undecided" in page
        assert 'class="plot"' not in page
