"""`benchmarks/headline.py` writes the README's table of what runs chose."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from edgecompress.report.document import to_json
from edgecompress.results import RunResult

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "headline.py"
PAGE = "before\n<!-- headline: begin -->\nold\n<!-- headline: end -->\nafter\n"


def call(*arguments: str) -> tuple[int, str]:
    """Run the script's command; give its exit code and what it printed."""
    found = CliRunner().invoke(runpy.run_path(str(SCRIPT))["main"], arguments)
    return found.exit_code, found.output


def write(folder: Path, result: RunResult) -> str:
    folder.mkdir()
    (folder / "results.json").write_text(to_json(result), encoding="utf-8")
    return str(folder)


def test_a_row_holds_what_was_chosen_and_the_language_that_lost_most(
    result: RunResult, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    code, told = call(write(tmp_path / "run", result), "--into", str(page))
    assert code == 0, told
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("-->\nafter\n") and "old" not in text
    row = text.splitlines()[4]
    teacher, chosen = (
        next(row for row in result.rows if row.name == name) for name in ("teacher", result.winner)
    )
    lost = {}
    for name in ("hau", "pcm", "swa"):
        scores = [
            one.value
            for row in (chosen, teacher)
            for one in row.measurements
            if (one.metric, one.slice, one.split) == ("f1", f"file:{name}", "test")
        ]
        lost[name] = scores[0] - scores[1]
    names = {"hau": "Hausa", "pcm": "Nigerian Pidgin", "swa": "Swahili"}
    assert names[min(lost, key=lambda name: lost[name])] in row.split("|")[-2]
    assert str(result.winner).replace("+", ", ") in row and "|18.2 (4.97× smaller)|" in row
    assert f"onnxruntime {result.environment['libraries']['onnxruntime']}, transformers" in told
    assert text.count("beside the stock fp32 export.") == 1


def test_a_reading_that_does_not_hold_is_marked_and_a_run_without_a_winner_refused(
    result: RunResult, tmp_path: Path
) -> None:
    rows = tuple(
        replace(
            row,
            measurements=tuple(
                replace(one, invalid="other load") if one.metric == "speedup" else one
                for one in row.measurements
            ),
        )
        for row in result.rows
    )
    busy = write(tmp_path / "busy", replace(result, name="busy", rows=rows))
    code, told = call(busy)
    assert code == 0 and "×, not valid faster" in told
    other = replace(result, environment={**result.environment, "cpu": "another"})
    code, told = call(busy, write(tmp_path / "other", other))
    assert (
        "\n\nbusy: Measured on" in told
        and f"\n\n{result.name}: Measured on one thread of another" in told
    )
    code, told = call(write(tmp_path / "none", replace(result, winner=None)))
    assert code == 1 and "nothing was chosen" in told


def test_a_page_without_marks_is_left_as_it_is(result: RunResult, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    code, told = call(write(tmp_path / "run", result), "--into", str(page))
    assert code == 1 and "has no marks" in told and page.read_text() == "no marks\n"
