"""A matrix's tables, plots and page, drawn from results that are made up and so known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import SIDEWAYS, WIDTHS, open_page

from edgecompress.report import svg
from edgecompress.report.html import render_html
from edgecompress.report.markdown import render_markdown
from edgecompress.report.matrix.document import to_json
from edgecompress.report.matrix.page import build, matrix_page, state_words
from edgecompress.report.matrix.plots import draw, legend, schemes
from edgecompress.report.matrix.summary import LOST, SCORE, Group, Model, describe, groups, means
from edgecompress.report.matrix.values import CellResult, MatrixResult
from edgecompress.report.words import duration
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.values import Measurement

SPARSITIES = (0.3, 0.5, 0.7, 0.9)
F1 = {"hau": 0.80, "swa": 0.86, "yor": 0.62}
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b> {{ 7 * 7 }}"


def row(name: str, chain: tuple[str, ...], f1: float, teacher: float, size: float) -> Row:
    """A row with all that a matrix sums up."""
    scores = [
        Measurement("f1", f1, "fraction", "local", "test", samples=500),
        Measurement("f1_drop", teacher - f1, "fraction", "local", "test", samples=500),
    ]
    costs = [
        Measurement("size", size * 1e6, "bytes"),
        Measurement("download_size", size * 8e5, "bytes"),
        Measurement("compression", 90 / size, "x"),
        Measurement("latency_p50", size / 10, "ms", "local"),
        Measurement("speedup", 90 / size / 2, "x", "local"),
    ]
    kind = "candidate" if chain else "reference"
    return Row(name, kind, chain=chain, measurements=(*scores, *costs))


def rows(base: float) -> tuple[Row, ...]:
    found = [row("teacher", (), base, base, 90), row("onnx-fp32", (), base, base, 90)]
    for scheme, size in (("", 90.0), ("+quantize.dynamic", 23.0)):
        end = ("export",) + ((scheme[1:],) if scheme else ())
        found.append(row(f"finetune{scheme}", ("finetune(epochs=6)", *end), base, base, size))
        for sparsity in SPARSITIES:
            prune = f"prune.magnitude(sparsity={sparsity})"
            after = base - 0.6 * sparsity**4
            chain = ("finetune(epochs=6)", prune, *end)
            found.append(row(f"finetune+{prune}{scheme}", chain, after, base, size))
            before = base - 0.25 * sparsity**4
            chain = (prune, "finetune(epochs=6)", *end)
            found.append(row(f"{prune}+finetune{scheme}", chain, before, base, size))
        chain = ("finetune(epochs=6)", "prune.layers(keep=3)", "distil", *end)
        name = f"finetune+prune.layers+distil{scheme}"
        found.append(row(name, chain, base - 0.03, base, size / 1.6))
    return tuple(found)


def cell(language: str, seed: int) -> CellResult:
    base = F1[language] + 0.01 * (seed - 8)
    result = RunResult(
        name=f"mini-{language}-{seed}",
        task="token-classification",
        recipe={"targets": ["local"]},
        rows=rows(base),
        winner="finetune+quantize.dynamic",
        verdict=Verdict("budget", "pass", "no budget was set"),
        minimize="size",
        budget=(),
        environment={},
        data={},
    )
    values = {"language": language, "seed": seed}
    return CellResult(f"{language}-{seed}", values, "finished", 600.0, 500.0, None, result)


@pytest.fixture
def matrix() -> MatrixResult:
    """Three languages and three seeds; one cell failed, one is waiting."""
    cells = [cell(language, seed) for language in F1 for seed in (7, 8, 9)]
    cells[7] = replace(cells[7], state="failed", reason="training diverged", result=None)
    cells[8] = replace(cells[8], state="waiting", seconds=100.0, result=None)
    axes = {"language": tuple(F1), "seed": (7, 8, 9)}
    return MatrixResult("mini", axes, {}, tuple(cells), "edgecompress run mini.yaml -o out")


def test_medians_over_seeds_and_means_over_languages(matrix: MatrixResult) -> None:
    hau, swa, yor = groups(matrix)
    assert [group.name for group in (hau, swa, yor)] == ["hau", "swa", "yor"]
    assert (hau.of, yor.of) == (3, 1)
    line = hau.line("finetune+prune.magnitude(sparsity=0.5)")
    assert line is not None
    found = line.readings[SCORE]
    assert (found.low, found.value, found.high) == pytest.approx((0.7525, 0.7625, 0.7725))
    assert line.readings[LOST].value == pytest.approx(0.0375)
    (mean,) = means(matrix, (hau, swa, yor))
    assert mean.name == "mean of 3 languages"
    average = mean.line("finetune")
    assert average is not None
    assert average.readings[SCORE].value == pytest.approx((0.80 + 0.86 + 0.61) / 3)


def test_each_further_axis_gets_means_of_its_own(matrix: MatrixResult) -> None:
    cells = [
        replace(one, values={"base": base, **one.values}) for base in "ab" for one in matrix.cells
    ]
    axes = {"base": ("a", "b"), **matrix.axes}
    wider = replace(matrix, axes=axes, cells=tuple(cells))
    assert [one.name for one in groups(wider)][:2] == ["a, hau", "a, swa"]
    names = [one.name for one in means(wider, groups(wider))]
    assert names == ["mean of 3 languages, a", "mean of 3 languages, b"]


def test_eight_schemes_have_eight_symbols_and_large_numbers_room(matrix: MatrixResult) -> None:
    (first, *_) = groups(matrix)
    kinds = [f"scheme {number}" for number in range(8)]
    lines = tuple(
        replace(line, scheme=kinds[number], name=kinds[number], readings={
            **line.readings, SCORE: replace(line.readings[SCORE], value=10.0**number, unit="")})
        for number, line in enumerate([first.line("finetune")] * 8) if line
    )  # fmt: skip
    group = replace(first, lines=lines, primary="perplexity")
    keys = [one.symbol for one in legend((group,), kinds) if one.symbol]
    assert len({*keys}) == 8 == len(keys)
    drawn = svg.draw(draw(group, kinds)[-1])
    assert ">100 k<" in drawn and ">1 M<" in drawn and ">100000<" not in drawn


@pytest.mark.parametrize(
    ("name", "chain", "expected"),
    [
        (
            "finetune+prune.magnitude(sparsity=0.5)",
            ("finetune(epochs=6)", "prune.magnitude(sparsity=0.5)", "export"),
            ("50% zeros, not trained again", "fp32", "zeros, not trained again", 0.5),
        ),
        (
            "prune.magnitude(sparsity=0.95)+finetune+quantize.dynamic",
            ("prune.magnitude(sparsity=0.95)", "finetune", "export", "fuse", "quantize.dynamic"),
            ("95% zeros, then trained", "dynamic", "zeros, then trained", 0.95),
        ),
        (
            "prune.magnitude(sparsity=None,pattern=2:4)",
            ("prune.magnitude(pattern=2:4)", "export"),
            ("2:4 zeros, not trained again", "fp32", "zeros, not trained again", None),
        ),
        (
            "quantize.cache+quantize.weights(linear_bits=4)",
            ("export", "quantize.cache", "quantize.weights(linear_bits=4)"),
            ("as it is", "cache + weights(linear_bits=4)", "as it is", None),
        ),
        ("quantize.inc_static", ("quantize.inc_static",), ("as it is", "inc_static",
                                                          "as it is", None)),
        (
            "finetune+prune.layers(keep=3)+distil+quantize.dynamic",
            ("finetune", "prune.layers(keep=3)", "distil", "export", "quantize.dynamic"),
            ("finetune+prune.layers(keep=3)+distil", "dynamic",
             "finetune+prune.layers(keep=3)+distil", None),
        ),
    ],
)  # fmt: skip
def test_a_chain_in_words(name: str, chain: tuple[str, ...], expected: Any) -> None:
    assert describe(Row(name, "candidate", chain=chain)) == expected


def test_what_is_not_to_be_trusted_or_failed_is_said(matrix: MatrixResult) -> None:
    def spoil(one: CellResult) -> CellResult:
        assert one.result is not None
        rows = list(one.result.rows)
        loud = "the machine was busy"
        rows[2] = replace(
            rows[2],
            measurements=tuple(
                replace(m, invalid=loud) if m.metric == "speedup" else m
                for m in rows[2].measurements
            ),
        )
        if one.name == "hau-8":
            rows[3] = replace(rows[3], measurements=(), error="StageError: diverged")
        return replace(one, result=replace(one.result, rows=tuple(rows)))

    cells = (*map(spoil, matrix.cells[:3]), *matrix.cells[3:])
    table = build(groups(replace(matrix, cells=cells))[0])
    faster = [column.key for column in table.columns].index("speedup")
    assert table.lines[2].cells[faster].invalid
    assert not table.lines[4].cells[faster].invalid
    assert table.footnotes == ("the machine was busy", "not made: seed 8: StageError: diverged")
    assert table.lines[4].cells[1].notes == (2,)
    spread = table.lines[4].cells[1].detail
    assert spread == words_of(0.79 - 0.6 * 0.3**4, 0.81 - 0.6 * 0.3**4)


def words_of(low: float, high: float) -> str:
    return f"{low * 100:.2f}–{high * 100:.2f}"


def test_perplexity_is_no_share_and_rises_where_answers_get_worse(matrix: MatrixResult) -> None:
    def judged(one: CellResult) -> CellResult:
        assert one.result is not None
        names = {"f1": "perplexity", "f1_drop": "perplexity_drop"}
        rows = tuple(
            replace(row, measurements=tuple(
                replace(m, metric=names[m.metric], unit="",
                        value=20 * (1 - m.value) if m.metric == "f1" else 20 * m.value)
                if m.metric in names else m for m in row.measurements))
            for row in one.result.rows
        )  # fmt: skip
        return replace(one, result=replace(one.result, task="text-generation", rows=rows))

    finished = tuple(map(judged, matrix.of("finished")))
    group = groups(replace(matrix, cells=finished))[0]
    table = build(group)
    lost = [column.key for column in table.columns].index("lost")
    assert {line.cells[lost].text[:1] for line in table.lines} == {"+", "0"}
    heights = [mark.y for plot in draw(group, schemes([group])) for mark in plot.marks]
    assert heights and all(0 < y < 25 for y in heights)


def test_time_that_is_left(matrix: MatrixResult) -> None:
    assert matrix.remaining_seconds == 500.0
    assert state_words(matrix) == (
        "7 of 9 cells finished, 1 failed, 1 not yet, in 82 min; about 8 min left for the rest"
    )
    assert [duration(s) for s in (45, 725, 11100, 187200)] == [
        "45 s", "12 min", "3 h 05 min", "2 d 4 h",
    ]  # fmt: skip


def test_what_was_taught_again_after_a_cut_has_a_colour_of_its_own() -> None:
    names = ("prune.channels(remove=0.5)", "prune.channels(remove=0.5)+distil")
    lines = tuple(Model(name, "candidate", name, "fp32", name) for name in names)
    keys = legend([Group("images", {}, lines, 1)], ["fp32"])
    named = {key.text: key.colour for key in keys if key.colour}
    assert named["made smaller"] != named["made smaller, then trained"]


def test_json_and_markdown(matrix: MatrixResult) -> None:
    document = json.loads(to_json(matrix))
    assert document["seconds"]["per_finished_cell"] == 600.0
    assert document["seconds"]["cpu_per_finished_cell"] == 500.0
    assert [one["state"] for one in document["cells"]][-2:] == ["failed", "waiting"]
    assert document["groups"][0]["lines"][0]["readings"]["score"]["count"] == 3
    text = render_markdown(matrix_page(matrix))
    assert "## Mean of 3 languages" in text
    assert "| 50% zeros, then trained | dynamic |" in text
    assert "training diverged" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page(browser: Any, matrix: MatrixResult, tmp_path: Path, width: str) -> None:
    open_page(browser, render_html(matrix_page(matrix)), tmp_path, width)
    assert browser.execute_script(SIDEWAYS) == 0, "the page scrolls sideways"
    assert browser.find_element("id", "verdict").text == "mini"
    headings = [one.text for one in browser.find_elements("css selector", "h2")]
    assert headings[:2] == ["Mean of 3 languages", "hau, median of 3 seeds"]
    assert browser.get_log("browser") == []


def test_hostile_text_stays_text(browser: Any, matrix: MatrixResult, tmp_path: Path) -> None:
    def spoil(one: CellResult) -> CellResult:
        if one.result is None:
            return replace(one, reason=HOSTILE)
        rows = tuple(
            replace(
                row,
                name=row.name if row.kind == "reference" else f"{row.name}{HOSTILE}",
                chain=tuple(f"{label}{HOSTILE}" for label in row.chain),
                error=HOSTILE if row.name == "finetune" else None,
            )
            for row in one.result.rows
        )
        values = {**one.values, "language": f"{one.values['language']}{HOSTILE}"}
        return replace(one, values=values, result=replace(one.result, rows=rows))

    cells = tuple(map(spoil, matrix.cells))
    evil = replace(matrix, name=HOSTILE, cells=cells, command=HOSTILE)
    page = render_html(matrix_page(evil))
    open_page(browser, page, tmp_path, "desk")
    assert "owned" not in browser.title or browser.title == HOSTILE
    assert not browser.find_elements("css selector", "img, section b")
    assert "49" not in browser.find_element("id", "verdict").text
