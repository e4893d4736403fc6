"""A process that has everything imported and answers each command line in a fork of its own.

Reads lines of JSON (arguments, folder, longest time) and answers with how each ended. A fork costs
milliseconds where a fresh process costs seconds; `judge.alone` tries the same in a fresh one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LIMIT_BYTES = 3 * 2**30
"""What a fork may take at most, so that a memory bomb ends there and not with the machine."""
UNCAUGHT = 70
"""Exit code of a fork that ended in an exception; no exit code of the command line."""


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print at import must not stand among the answers
    _import_all()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_answer(asked)), file=answers, flush=True)


IMPORTED = (
    "asyncssh", "numpy", "numpy.ma", "onnx", "onnxruntime", "PIL.Image", "platformdirs",
    "rich.console", "rich.progress", "rich.table", "tokenizers",
    "edgecompress.engine.matrix.run", "edgecompress.engine.pipeline",
    "edgecompress.engine.preflight", "edgecompress.engine.single",
    "edgecompress.models.samples", "edgecompress.targets",
    "edgecompress.targets.emulated", "edgecompress.models.synthetic",
)  # fmt: skip
"""What the commands under trial import; nothing that starts threads."""
WARMED = [f"quantize.{scheme}" for scheme in ("static", "dynamic", "weights", "half", "smooth")]
"""Stages whose code is digested once; others would import torch for it."""


def _import_all() -> None:
    """Import once what every fork needs."""
    for name in IMPORTED:
        importlib.import_module(name)
    from edgecompress.cli.main import cli
    from edgecompress.data import data_formats
    from edgecompress.provenance import code_digest, library_versions, package_digest
    from edgecompress.stage import stage_class, stage_modules
    from edgecompress.tasks import task

    for name in cli.list_commands(None):  # type: ignore[arg-type]
        cli.get_command(None, name)  # type: ignore[arg-type]
    for name in stage_modules():
        module = stage_class(name).__module__
        if name in WARMED:
            code_digest(module)  # is kept: it parses the package's own source
            library_versions(module)
    package_digest()
    data_formats()
    task("masked-lm")
    gc.freeze()  # a collection in a fork would otherwise touch, and so copy, all of this


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    folder = Path(asked["folder"])
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        _child(asked["arguments"], folder)
    late = False
    while True:
        ended, status, used = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - began > asked["longest_s"] and not late:
            late = True
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.003)
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code,
        "seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "late": late,
    }


def _child(arguments: list[str], folder: Path) -> None:
    """Run one command line; does not return."""
    code = UNCAUGHT
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            opened = os.open(f".{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
        from edgecompress.cli.main import main as command_line

        command_line(arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else UNCAUGHT
    except BaseException:  # noqa: BLE001 - the judge counts it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
