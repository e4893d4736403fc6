"""Progress as a person sees it: in a real pseudo-terminal, narrow and wide, and in a plain file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_models import lstm
from screens import Screen, watch

PIECES = (
    ("teacher", "opened checkpoints/minilm"),
    ("finetune(epochs=6, learning_rate=0.0005, batch_size=64, warmup=0.25, seed=11)", "110.7 s"),
    ("profile", "latency p50 3.41 ms, 2.10× as fast as onnx-fp32, peak memory 121 MB"),
    ("日本語の長い名前の候補者日本語の長い名前の候補者日本語の長い名前の候補者の終わり", "0.2 s"),
    ("evaluate on pi5", "failed: pi5: the connection was lost; look whether the board is switched "
     "on, and try `edgecompress targets check pi5`"),
    ("[bold]x[/bold]", "[red]1 of 2[/red]"),
)  # fmt: skip
SECTIONS = ("teacher and references", "prune.structured(heads=0.25, ffn=0.5) + distil(epochs=3) + "
            "quantize.inc_static(calibration=quickstart, samples=64)", "test")  # fmt: skip
SCRIPT = """\
import sys, time
from edgecompress.api.progress import TerminalReporter

pieces, sections, pause, before = eval(sys.argv[1])
with TerminalReporter() as reporter:
    reporter.started -= before
    reporter.plan(sections)
    for section in sections:
        reporter.section(section)
        for title, note in pieces:
            reporter.begin(title)
            for done in range(4):
                reporter.advance(done, 4, f"epoch {done + 1} of 4")
                time.sleep(pause)
            reporter.end(note)
"""
CLOCK = re.compile(r"^ *(\d+:\d\d:\d\d)  (\S.*)$")
BAR = re.compile("[━╸╺]{3}")


def script(pause: float = 0.03, before: float = 3_590.0) -> list[object]:
    return ["-c", SCRIPT, repr((PIECES, SECTIONS, pause, before))]


def finished(screen: Screen) -> list[str]:
    """Give the finished pieces, each with its continued lines joined."""
    found: list[str] = []
    for line in screen.lines:
        clock = CLOCK.match(line)
        if clock:
            found.append(clock[2])
        elif line.startswith("   ") and found:
            found[-1] += f" {line.strip()}"
    return found


@pytest.mark.parametrize("width", [80, 140])
def test_every_finished_line_is_whole(width: int, tmp_path: Path) -> None:
    screen = watch(script(), width, folder=tmp_path)
    assert screen.code == 0
    assert not screen.hidden_cursor
    assert not any(BAR.search(line) for line in screen.lines), "a bar was left on the screen"
    lines = finished(screen)
    assert len(lines) == len(PIECES) * len(SECTIONS), "a line was lost or doubled"
    for line, (title, note) in zip(lines, PIECES * len(SECTIONS), strict=True):
        said = re.sub(r"\s+", "", line)
        assert said.endswith(re.sub(r"\s+", "", note)), "what was done is not said whole"
        name = re.sub(r"\s+", "", title)
        head, cut, tail = said.removesuffix(re.sub(r"\s+", "", note)).partition("…")
        assert head + tail == name if not cut else name.startswith(head) and name.endswith(tail)
        assert not cut or min(len(head), len(tail)) >= 4, "a cut name keeps both of its ends"
    heads = [line for line in screen.lines if re.search(r" \(\d of 3\)$", line)]
    assert [head[-8:] for head in heads] == ["(1 of 3)", "(2 of 3)", "(3 of 3)"]
    assert "samples=64)" in heads[1]
    clocks = [match[1] for line in screen.lines if (match := CLOCK.match(line))]
    assert clocks[0] == "0:59:50", clocks
    assert clocks == sorted(clocks)


def test_no_line_is_lost_while_the_bars_are_drawn_at_the_same_moment(tmp_path: Path) -> None:
    pieces = [(f"piece {number}", f"note {number}") for number in range(70)]
    start = "    reporter.started"
    busy = SCRIPT.replace(start, f"    sys.setswitchinterval(1e-6)\n{start}")
    busy = busy.replace("with Term", "TerminalReporter.per_second = 400\nwith Term")
    screen = watch(["-c", busy, repr((pieces, ["all of it"], 0.002, 0))], 80, folder=tmp_path)
    assert [line.split() for line in finished(screen)] == [
        [*title.split(), *note.split()] for title, note in pieces
    ]
    assert len(screen.lines) == 1 + len(pieces), "something of the bars was left"


def test_the_clock_does_not_wrap_after_an_hour(tmp_path: Path) -> None:
    screen = watch(script(0.0, 36 * 3_600.0), 80, folder=tmp_path)
    assert all(
        match[1].startswith("36:00:") for line in screen.lines if (match := CLOCK.match(line))
    )
    assert len(finished(screen)) == len(PIECES) * len(SECTIONS)


@pytest.mark.parametrize("width", [80, 140])
def test_the_bars_say_what_is_left(width: int, tmp_path: Path) -> None:
    screen = watch(script(0.06), width, folder=tmp_path)
    bars = [line for lines in screen.shown for line in lines if BAR.search(line)]
    whole = [line for line in bars if "the whole run" in line]
    assert any(re.search(r"part 2 of 3 .*about \d:\d\d:\d\d left$", line) for line in whole), whole
    assert any(re.search(r"part 1 of 3 .*so far$", line) for line in whole)
    assert any(re.search(r"epoch \d of 4 .*\d:\d\d:\d\d left$", line) for line in bars)
    assert all(line.startswith(tuple("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")) for line in bars), "a bar was drawn into a line"


@pytest.mark.parametrize("moment", ["starting", "epoch"])
def test_ctrl_c_gives_the_terminal_back(moment: str, tmp_path: Path) -> None:
    def reached(lines: list[str]) -> bool:
        return any(BAR.search(line) and moment in line for line in lines)

    [flag, text, argument] = script(0.5)
    # So long that a busy machine shows it, too: the next bars overwrite what is not read yet.
    waiting = str(text).replace("    reporter.plan", "    time.sleep(60)\n    reporter.plan")
    command = [flag, waiting if moment == "starting" else text, argument]
    screen = watch(command, 80, folder=tmp_path, stop_at=reached)
    assert screen.code != 0
    assert not screen.hidden_cursor
    assert not any(BAR.search(line) for line in screen.lines)
    if moment == "epoch":
        assert finished(screen)[0].split()[:2] == ["teacher", "interrupted"]


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize(
    "step", ["set_live", "push_render_hook", "clear_live", "pop_render_hook", "line", "show_cursor"]
)
def test_ctrl_c_while_the_bars_are_set_up_or_taken_away(
    step: str, call: int, tmp_path: Path
) -> None:
    """Each step of rich's way there and back, at its first and its second time."""
    interrupt = f"""\
import os, signal
from rich.console import Console
step, calls = Console.{step}, []

def interrupted(self, *arguments):
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, *arguments)

Console.{step} = interrupted
"""
    [flag, text, argument] = script(0.0)
    screen = watch([flag, interrupt + str(text), argument], 80, folder=tmp_path)
    assert screen.code != 0
    assert not screen.hidden_cursor
    assert "KeyboardInterrupt" in " ".join(screen.lines)
    shown = [line for line in screen.lines if BAR.search(line)]
    assert not shown, "a bar was left on the screen"


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, script(0.0))], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={**os.environ, "COLUMNS": "40"}, timeout=60,
    )  # fmt: skip
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(SECTIONS) * (1 + len(PIECES)), "each on one line, however long"
    for title, note in PIECES:
        assert sum(line.endswith(f"  {title}  {note}") for line in lines) == len(SECTIONS)


def test_a_command_says_what_it_measured(tmp_path: Path) -> None:
    model = lstm(tmp_path / "lstm.onnx")
    screen = watch(
        ["-m", "edgecompress", "profile", model, "--min-duration", "50ms"], 100, folder=tmp_path,
        EDGECOMPRESS_STORE=str(tmp_path / "store"), XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert screen.code == 0, screen.lines
    (line,) = finished(screen)[:1]
    assert re.match(r"profile +latency p50 [\d.]+ ms", line), line
    assert not screen.hidden_cursor
