"""The command line in this process: torch is imported once, and not again for every command."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from edgecompress.cli.main import main


def in_process(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Do what the program does with `arguments`; give its exit code and what it wrote."""
    words = list(map(str, arguments))
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.chdir(cwd or Path.cwd())
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    said = [stream.buffer.getvalue().decode() for stream in (out, errors)]
    return subprocess.CompletedProcess(words, code, *said)
