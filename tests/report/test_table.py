"""The table's numbers, the verdict's sentence, and their Markdown and terminal drawings."""

import doctest
import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgecompress.report import words
from edgecompress.report.details import journey, losers, slices
from edgecompress.report.environment import cpu_flags, machine
from edgecompress.report.facts import gather, short_names
from edgecompress.report.headline import headline
from edgecompress.report.main_table import build
from edgecompress.report.markdown import code, escape, render_markdown
from edgecompress.report.run_page import run_page
from edgecompress.report.table import Table
from edgecompress.report.terminal import render_terminal
from edgecompress.report.words import limit_words, number, signed
from edgecompress.results import Limit, Row, RunResult, Verdict
from edgecompress.values import Measurement


def cells(table: Table, name: str) -> dict[str, str]:
    line = next(line for line in table.lines if line.name == name)
    pairs = zip(table.columns, line.cells, strict=True)
    return {column.key: f"{cell.text}|{cell.detail}".rstrip("|") for column, cell in pairs}


def terminal(result: RunResult, width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for part in render_terminal(run_page(result)):
        console.print(part)
    return out.getvalue()


def without_winner(result: RunResult, state: str) -> RunResult:
    """Let every candidate miss a size of 15 MB, or leave that undecided."""
    changed = Verdict("size", state, "size: 18.20 MB, allowed at most 15.00 MB", 0.2133)  # type: ignore[arg-type]
    rows = tuple(
        replace(row, verdicts=tuple(changed if v.limit == "size" else v for v in row.verdicts))
        for row in result.rows
    )
    reason = f"nearest is heads+ffn+static: {changed.reason}"
    verdict = Verdict("budget", state, reason, 0.2133)  # type: ignore[arg-type]
    return replace(result, rows=rows, winner=None, verdict=verdict)


def test_rows_and_numbers(result: RunResult) -> None:
    table = build(result)
    names = [line.name for line in table.lines]
    assert names[:4] == ["teacher (PyTorch)", "onnx-fp32", "onnx-fp32-tuned", "heads+ffn+static"]
    assert names[-1] == "3 layers+inc_static"
    assert len(names) == 12
    winner = cells(table, "heads+ffn+static")
    assert winner["verdict"] == "chosen"
    assert winner["size"] == "18.2"
    assert winner["smaller"] == "4.97"
    assert winner["accuracy:test"] == "77.69"
    assert winner["drop:test"] == "−0.63|−1.09 to −0.19"
    assert winner["accuracy:validation"] == "83.72"
    assert winner["latency"] == "3.22|3.17–3.27"
    assert winner["faster"] == "3.70|3.62–3.77 (3.33)"


def test_a_value_that_is_not_valid_is_marked_and_explained(result: RunResult) -> None:
    table = build(result)
    line = next(line for line in table.lines if line.name == "heads+ffn+inc_static")
    bad = [cell for cell in line.cells if cell.invalid]
    assert [cell.notes for cell in bad] == [(1,), (1,)]
    assert "throttled" in table.footnotes[0]
    assert cells(table, "heads+ffn+inc_static")["accuracy:test"] == "–"


def test_a_failed_candidate_has_no_numbers(result: RunResult) -> None:
    failed = cells(build(result), "3 layers+inc_static")
    assert failed.pop("verdict") == "failed"
    assert set(failed.values()) == {"–"}


def test_the_sentence_of_a_winner(result: RunResult) -> None:
    head = headline(result, gather(result))
    assert head.badge == "Budget kept"
    assert head.sentence == (
        "4.97× smaller and 3.70× faster (3.33× from input to answer) than the stock fp32 export, "
        "with 0.63 points of F1 lost."
    )
    assert head.detail == "the smallest of the 2 candidates (of 9) that keep the budget"


@pytest.mark.parametrize("struck", ["latency_p50", "speedup"])
def test_no_speed_is_claimed_of_times_that_do_not_hold(result: RunResult, struck: str) -> None:
    rows = tuple(
        replace(
            row,
            measurements=tuple(
                replace(one, invalid="drift: the last third is +161%")
                if row.name == result.winner and one.metric == struck
                else one
                for one in row.measurements
            ),
        )
        for row in result.rows
    )
    disturbed = replace(result, rows=rows)
    page = run_page(disturbed)
    head = headline(disturbed, gather(disturbed))
    assert head.sentence == (
        "4.97× smaller than the stock fp32 export, with 0.63 points of F1 lost."
    )
    why = "the times do not hold: drift: the last third is +161%"
    assert head.detail.endswith(f"keep the budget. No speed is given, as {why}")
    said = render_markdown(page)
    assert why in said and "× faster" not in said.partition("## All models")[0]
    shown = terminal(disturbed, 120)
    assert "4.97× smaller" in shown and "3.70× faster" not in shown and "3.33× faster" not in shown


@pytest.mark.parametrize(("sign", "word"), [(1, "higher"), (-1, "lower")])
def test_an_error_rate_is_said_to_be_lower_or_higher(
    result: RunResult, sign: int, word: str
) -> None:
    def spoken(one: Measurement) -> Measurement:
        turn = sign if one.metric == "f1_drop" else 1
        return replace(one, metric=one.metric.replace("f1", "wer"), value=turn * one.value)

    rows = tuple(
        replace(row, measurements=tuple(map(spoken, row.measurements))) for row in result.rows
    )
    heard = replace(result, task="automatic-speech-recognition", rows=rows)
    said = headline(heard, gather(heard)).sentence
    assert said.endswith(f"export, with word error rate 0.63 points {word}."), said


@pytest.mark.parametrize(
    ("state", "words"), [("fail", "misses size by 21%"), ("undecided", "missing or not valid")]
)
def test_the_sentence_without_a_winner(result: RunResult, state: str, words: str) -> None:
    missed = without_winner(result, state)
    head = headline(missed, gather(missed))
    assert words in head.sentence
    assert head.subject == "heads+ffn+static"
    assert head.detail.startswith("size: 18.20 MB, allowed at most 15.00 MB")
    assert words in terminal(missed, 120)


def test_a_run_of_nothing_finished_still_has_a_report(result: RunResult) -> None:
    row = Row("only", "candidate", error="disk full", lost="disk full")
    bare = replace(
        result, rows=(row,), winner=None, verdict=Verdict("budget", "fail", "none", float("inf"))
    )
    assert "No candidate was finished" in render_markdown(run_page(bare))
    assert "disk full" in terminal(bare, 80)


def test_a_model_without_data_has_no_accuracy_columns() -> None:
    row = Row("x", "candidate", measurements=(Measurement("size", 1e6, "bytes"),))
    verdict = Verdict("budget", "pass", "no budget was set")
    bare = RunResult("n", None, {}, (row,), "x", verdict, "size", (), {}, {})
    assert [column.key for column in build(bare).columns] == ["verdict", "size"]
    assert "Chosen" in render_markdown(run_page(bare))


def test_two_targets_give_two_tables(result: RunResult) -> None:
    far = "ssh://pi@board"
    rows = tuple(
        replace(
            row,
            measurements=(
                *row.measurements,
                Measurement("latency_p50", 41.0, "ms", far, interval=(40.0, 42.0)),
            ),
        )
        if row.kind == "candidate" and not row.error
        else row
        for row in result.rows
    )
    both = replace(result, rows=rows)
    assert gather(both).targets == ("local", far)
    assert cells(build(both, far), "static")["latency"] == "41.0|40.0–42.0"
    assert "measured on local" in build(both, far).footnotes
    assert render_markdown(run_page(both)).count("onnx-fp32-tuned") == 2


def test_names_leave_out_what_all_have() -> None:
    chains = ["export+fuse+quantize.dynamic", "prune+export+fuse+quantize.static"]
    rows = [Row("onnx-fp32", "reference"), *(Row(name, "candidate") for name in chains)]
    names, common = short_names(rows)
    assert common == ("export", "fuse")
    assert list(names.values()) == ["onnx-fp32", "quantize.dynamic", "prune+quantize.static"]
    shorter, longer = "export+quantize.dynamic", "prune+export+quantize.dynamic"
    names, common = short_names([Row(shorter, "candidate"), Row(longer, "candidate")])
    assert (names[shorter], names[longer]) == ("quantize.dynamic", "prune+quantize.dynamic")


def test_slices_compare_with_the_teacher(result: RunResult) -> None:
    facts = gather(result)
    files, labels = slices(facts, facts.winner)
    assert [line.name for line in files.lines] == ["hau", "pcm", "swa"]
    assert [line.name for line in labels.lines] == ["DATE", "LOC", "ORG", "PER"]
    assert files.split == "test"
    assert max(abs(line.share) for line in files.lines) == 1.0


def test_stages_may_lack_anything() -> None:
    entries = (
        {"stage": "export", "size": 90e6, "f1": 0.84, "seconds": 4.0},
        "not a mapping",
        {},
        {"stage": "quantize", "size": 20e6, "f1": 0.83, "latency_p50": 3},
        {"stage": "x", "size": "many", "f1": float("nan")},
    )
    table = journey(Row("a", "candidate", stages=entries))  # type: ignore[arg-type]
    assert table is not None
    assert [column.title for column in table.columns] == ["Size", "F1", "p50", "Took"]
    size, accuracy, _, took = zip(*(line.cells for line in table.lines), strict=True)
    assert [cell.text for cell in size] == ["90.0", "–", "20.0", "–"]
    assert (size[2].detail, size[2].tone) == ("−70.0", "up")
    assert accuracy[2].tone == "down"
    assert took[0].text == "4.00 s"


def test_every_other_candidate_says_why_it_lost(result: RunResult) -> None:
    reasons = losers(gather(result))
    assert len(reasons) == 7
    assert all(why for _, why in reasons)


def test_the_machine_is_shown_with_its_flags() -> None:
    environment = {"cpu": "x", "flags": "fma avx2 rdpid", "memory_bytes": 8e9, "board": None}
    assert cpu_flags(environment) == (("avx2", "fma"), ("fma", "avx2", "rdpid"))
    facts = {fact.name: fact.value for fact in machine(environment)}
    assert facts == {"cpu": "x", "memory": "8.00 GB"}


def test_words() -> None:
    assert doctest.testmod(words).failed == 0
    assert limit_words(Limit("f1", max_drop=0.01)) == "F1 at most 1 point under the teacher"
    assert limit_words(Limit("size", max=10e6)) == "Size at most 10 MB"
    text = "Latency p50 on local at most 5 ms"
    assert limit_words(Limit("latency_p50", target="local", max=5)) == text
    assert number(float("nan"), "ms") == "–"
    assert signed(-0.00001, "fraction") == "0.00"


def test_markdown(result: RunResult) -> None:
    text = render_markdown(run_page(result))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 12
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "**Budget kept.** 4.97× smaller" in text
    assert "~~3.41~~¹" in text
    assert "| **heads+ffn+static** | **chosen** |" in text
    assert result.command in text


def test_markdown_shows_hostile_names_as_they_are() -> None:
    assert escape("a|b <img> *x* [y](z)\n# t") == "a\\|b &lt;img&gt; \\*x\\* \\[y\\](z) # t"
    assert escape("# title") == "\\# title"
    assert escape("1. one") == "1\\. one"
    assert escape("4.97× smaller") == "4.97× smaller"
    assert code("a`b") == "``a`b``"


@pytest.mark.parametrize("width", [60, 80, 110, 180])
def test_the_terminal_keeps_to_its_width(result: RunResult, width: int) -> None:
    text = terminal(result, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "Budget kept" in text
    assert "throttled" in text
    assert "−0.63" in text
    assert ("Peak mem." in text) == (width > 150)


def test_the_terminal_reads_no_markup_and_no_escapes(result: RunResult) -> None:
    rows = tuple(replace(row, name="[red]\x1b[31m" + row.name) for row in result.rows[3:])
    text = terminal(replace(result, rows=rows, winner=rows[0].name), 200)
    assert "[red]" in text
    assert "\x1b" not in text
