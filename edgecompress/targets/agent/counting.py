"""Instructions of an inference, counted by the emulator that runs this process.

The emulator's plugin (``edgecompress/targets/emulated/plugin.c``) counts between two marker system
calls, which to a kernel are writes to a file that is not open, and appends one line of JSON to the
file that ``EDGECOMPRESS_COUNTS`` names.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.agent.sessions import LoadedModel, cast

_MARKER = 9999  # the file of the marker calls
_START, _END = b"s", b"ee"  # told apart by their lengths


def _mark(what: bytes) -> None:
    with contextlib.suppress(OSError):  # it always fails: that file is not open
        os.write(_MARKER, what)


def _read(file: Path) -> dict[str, Any]:
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines:
        sys.exit("no instructions were counted; this mode needs an emulator with the plugin")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def count(
    entries: Sequence[Mapping[str, Any]],
    items: Sequence[list[list[Feed]]],
    job: Mapping[str, Any],
    folder: Path,
    open_model: Callable[[Mapping[str, Any], Mapping[str, Any], Path], LoadedModel],
) -> list[dict[str, Any]]:
    """Count the instructions of one pass over its items, model by model.

    Each model runs every item once before, so that nothing is counted that happens only the
    first time. One thread runs it: only that one is counted, and threads that wait for each other
    would not do the same twice. Nor is progress told: it depends on the clock.

    Returns
    -------
    list of dict
        For each model ``inferences`` (items of the pass) and the instructions of all of them:
        ``all``, ``dot_product``, ``fma``, ``multiply_add``, ``load_store``. The call from Python
        is counted too; that of a model that does nothing is the harness's own part.
    """
    file = Path(os.environ.get("EDGECOMPRESS_COUNTS", os.devnull))
    found = []
    for index, entry in enumerate(entries):
        model = open_model(entry, {**job, "threads": 1}, folder)
        fed = cast(items[index], model)
        _pass(model, fed)
        gc.collect()
        gc.disable()
        _mark(_START)
        _pass(model, fed)
        _mark(_END)
        gc.enable()
        found.append({"inferences": len(fed), **_read(file)})
    return found


def _pass(model: LoadedModel, items: list[list[Feed]]) -> None:
    for rows in items:
        for row in rows:
            model(row)
