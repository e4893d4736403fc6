"""Try a case and say what is wrong with how the command line took it."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing.case import Case

LONGEST_S = 20.0
"""Of the processor's time."""
PATIENCE_S = float(os.environ.get("FUZZING_PATIENCE_S", "20"))
"""Of the clock's, after which a command line hangs; more where the machine has other work."""
MOST_BYTES = 2**30
CODES = (0, 1, 2, 3, 4)
LONGEST_MESSAGE = 800
"""Characters of a sentence that a person reads at once."""
OUTPUTS = ("out", "out.tar.zst", "context", "fresh", ".stdout", ".stderr")
"""What a case's command may make in its folder; everything else has strayed."""
LAST_RESORT = "this is a fault of edgecompress"
"""How the command line says what nobody foresaw; for this judge it is a traceback."""


@dataclass(frozen=True)
class Outcome:
    """How a command line ended; `seconds` are the processor's, which other work does not slow."""

    code: int
    seconds: float
    peak_bytes: int
    late: bool
    out: str
    err: str
    outside: tuple[str, ...] = ()
    """What was read or written that no case may: see `Outside`."""

    @property
    def message(self) -> str:
        """The error: from the last line that begins as one, or all where none does.

        Usage, progress and remarks stand on standard error before it.
        """
        text = self.err.strip()
        begins = [found.start() for found in re.finditer(r"^(edgecompress|Error): ", text, re.M)]
        return text[begins[-1] :] if begins else text


def faults(case: Case, outcome: Outcome) -> list[str]:
    """Every criterion that a case did not keep; none where all is well."""
    found = []
    if "Traceback (most recent call last)" in outcome.err + outcome.out:
        found.append("traceback")
    elif LAST_RESORT in outcome.err:
        found.append("traceback (last resort)")
    elif outcome.late or outcome.seconds > LONGEST_S:
        found.append("late")
    elif outcome.code not in CODES:
        found.append(f"exit code {outcome.code}")
    elif outcome.code in (1, 2) and not _is_verdict(case, outcome):
        found += _unclear(case, outcome.message)
    if "--json" not in case.arguments and any(
        unicodedata.category(sign) == "Cc" and sign not in "\n\t" for sign in outcome.out
    ):
        found.append("control characters in the output")
    if outcome.peak_bytes > MOST_BYTES:
        found.append("memory")
    # What a command that was killed for being late leaves, the next one there sweeps.
    found += [one for one in outcome.outside if not (outcome.late and ": .edgecompress-" in one)]
    return found


def _is_verdict(case: Case, outcome: Outcome) -> bool:
    """Whether exit code 1 says that something differs; then the answer says what."""
    return case.arguments[0] == "reproduce" and outcome.code == 1 and bool(outcome.out.strip())


class Outside:
    """Watches what lies beside a case's own files while its command runs.

    A read is seen in the file's time of access, also where a library's native code reads. File
    systems keep that time when it would be older than the last change (``relatime``); where they
    keep none (``noatime``) only writing is seen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = {*OUTPUTS, *(path.name for path in folder.iterdir())}
        self._files = {}
        for file in (folder / "outside").rglob("*"):
            if file.is_file():
                os.utime(file, ns=(0, file.stat().st_mtime_ns))
                self._files[file] = file.stat()

    def seen(self) -> tuple[str, ...]:
        """Give one fault for each file that was read, changed, or written where none belongs."""
        found = []
        for file, before in self._files.items():
            now = file.stat() if file.exists() else None
            if now is None or now.st_mtime_ns != before.st_mtime_ns:
                found.append(f"changed outside: {file.name}")
            elif now.st_atime_ns != before.st_atime_ns:
                found.append(f"read outside: {file.name}")
        made = [file for file in (self._folder / "outside").rglob("*") if file.is_file()]
        new = [file.name for file in made if file not in self._files]
        new += [path.name for path in self._folder.iterdir() if path.name not in self._before]
        found += [f"written outside: {name}" for name in new]
        for above in (self._folder.parent, self._folder.parent.parent, Path("/tmp"), Path("/")):
            for stray in above.glob("strayed*"):
                found.append(f"written outside: {above.name}/{stray.name}")
                shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        return tuple(found)


def _unclear(case: Case, message: str) -> list[str]:
    if not message:
        return ["no message"]
    found = []
    if not message.startswith(("edgecompress: ", "Error: ")):
        found.append("not our message")
    lines = [line for line in message.splitlines() if line.strip()]
    if len(lines) > 1:
        found.append("several lines")
    if len(message) > LONGEST_MESSAGE:
        found.append("long message")
    if not any(name in message for name in case.names):
        found.append("names nothing")
    if any(ord(sign) < 32 and sign != "\n" for sign in message):
        found.append("control characters")
    return found


class Server:
    """A `fuzzing.server`, asked one case after the other."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzzing.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            env=environment(home),
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the server of the trials did not start")

    def try_case(self, case: Case, folder: Path) -> Outcome:
        """Answer a case from a fork of the server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"arguments": case.arguments, "folder": str(folder), "longest_s": PATIENCE_S}
        outside = Outside(folder)
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        out, err = (
            (folder / name).read_text(encoding="utf-8", errors="replace")
            for name in (".stdout", ".stderr")
        )
        return Outcome(**said, out=out, err=err, outside=outside.seen())

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


def alone(case: Case, folder: Path, home: Path) -> Outcome:
    """Try a case as a person does: in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    late = False
    with (folder / ".stdout").open("wb") as out, (folder / ".stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgecompress", *case.arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, env=environment(home),
        )  # fmt: skip
        try:
            code = process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            late, code = True, process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = after.ru_maxrss * 1024 if after.ru_maxrss > before.ru_maxrss else 0
    texts = [
        (folder / name).read_text(encoding="utf-8", errors="replace")
        for name in (".stdout", ".stderr")
    ]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(code, seconds, peak, late, *texts)


def environment(home: Path) -> dict[str, str]:
    """A person's environment whose home, caches and temporary files lie in `home`."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "EDGECOMPRESS_STORE": str(home / "store"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "COLUMNS": "200",
    }


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the cases; what they left there (devices, loops) goes with it."""
    place = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
