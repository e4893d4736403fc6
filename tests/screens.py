"""A real pseudo-terminal: a program runs in it; an emulator keeps what a person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte

HEIGHT = 90
"""Lines of the terminal: enough that nothing scrolls out of it."""


@dataclass
class Screen:
    """What a terminal shows when the program has ended, and what it showed on the way."""

    lines: list[str]
    shown: list[list[str]]
    hidden_cursor: bool
    code: int


def watch(
    command: Sequence[object],
    width: int,
    *,
    folder: Path,
    stop_at: Callable[[list[str]], bool] | None = None,
    patience_s: float = 120,
    **environment: str,
) -> Screen:
    """Run a command in a terminal of `width` columns; press Ctrl-C at `stop_at`.

    It is pressed again after some seconds, as a person does: Python drops one that comes while it
    runs a finalizer.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    terminal = pyte.Screen(width, HEIGHT)
    stream = pyte.ByteStream(terminal)
    known = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True,
        env={**known, "TERM": "xterm-256color", **environment},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    shown: list[list[str]] = []
    pressed = 0.0
    end = time.monotonic() + patience_s
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(ours, 65536)
            except OSError:  # the last program has closed the terminal
                break
            if not data:
                break
            stream.feed(data)
            lines = [line.rstrip() for line in terminal.display]
            shown.append(lines)
            now = time.monotonic()
            if stop_at is not None and now - pressed > 5 and (pressed or stop_at(lines)):
                pressed = now
                os.write(ours, b"\x03")
        code = child.wait(timeout=30)
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    lines = [line.rstrip() for line in terminal.display]
    while lines and not lines[-1]:
        lines.pop()
    return Screen(lines, shown, terminal.cursor.hidden, code)
