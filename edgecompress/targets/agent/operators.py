"""Which operators took the time: ONNX Runtime's own profile of a session, summed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.agent.progress import Progress
from edgecompress.targets.agent.sessions import OnnxSession, cast

ITEMS, PASSES = 16, 3
"""How many inputs, and how often each; the profile costs time and holds each node of each run."""
KERNEL = "_kernel_time"


def profile_operators(
    entries: Sequence[Mapping[str, Any]],
    items: Sequence[list[list[Feed]]],
    job: Mapping[str, Any],
    folder: Path,
) -> list[dict[str, Any]]:
    """Run each model with ONNX Runtime's profiler on.

    Every input runs once before what counts.

    Returns
    -------
    list of dict
        For each model ``inferences`` and ``nodes``; each of these with ``name``, ``op``,
        ``provider``, ``inputs`` (dtypes), ``ns`` and ``calls`` of all inferences together.
    """
    progress, found = Progress(len(entries)), []
    for index, entry in enumerate(entries):
        if entry["path"] is None:
            sys.exit("the model that does nothing has no operators")
        session = OnnxSession(entry, job, folder)
        fed = cast(items[index], session)[:ITEMS]
        for done in range(PASSES + 1):
            for rows in fed:
                for row in rows:
                    session(row)
            progress(index + (done + 1) / (PASSES + 1))
        file = Path(session.end_profiling())
        events = json.loads(file.read_text(encoding="utf-8", errors="replace"))
        file.unlink()
        rows_in_all = sum(len(rows) for rows in fed)
        found.append(
            {
                "inferences": len(fed) * PASSES,
                "nodes": summed(events, skip=rows_in_all),
            }
        )
    return found


def summed(events: Iterable[Mapping[str, Any]], skip: int) -> list[dict[str, Any]]:
    """Sum a profile by node, leaving out the first `skip` runs; the slowest node comes first.

    A node with a graph of its own (If, Loop, Scan) encloses the nodes of that graph: they count
    for themselves, and what is left is the node's.
    """
    events = list(events)
    runs = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    begin = runs[skip] if len(runs) > skip else 0
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node"
        and str(event.get("name", "")).endswith(KERNEL)
        and event["ts"] >= begin
    ]
    kernels.sort(key=lambda event: (event.get("tid", 0), event["ts"], -event["dur"]))
    own = [event["dur"] for event in kernels]
    open_: list[int] = []
    for index, event in enumerate(kernels):
        while open_ and not _encloses(kernels[open_[-1]], event):
            open_.pop()
        if open_:
            own[open_[-1]] -= event["dur"]
        open_.append(index)
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for event, microseconds in zip(kernels, own):  # noqa: B905
        described = event.get("args", {})
        name, op = event["name"].removesuffix(KERNEL), str(described.get("op_name", "unknown"))
        node = nodes.setdefault(
            (name, op),
            {
                "name": name,
                "op": op,
                "provider": described.get("provider"),
                "inputs": _dtypes(described.get("input_type_shape")),
                "ns": 0,
                "calls": 0,
            },
        )
        node["ns"] += max(microseconds, 0) * 1000
        node["calls"] += 1
    return sorted(nodes.values(), key=lambda node: -node["ns"])


def _encloses(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> bool:
    if outer.get("tid") != inner.get("tid"):
        return False
    control = outer.get("args", {}).get("op_name") in ("If", "Loop", "Scan")
    return control and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]


def _dtypes(described: object) -> list[str]:
    """Names of the inputs' dtypes from ``[{"float": [1, 32]}, …]``; a text in some versions."""
    if isinstance(described, str):
        described = json.loads(described or "[]")
    return (
        [name for each in described or () for name in each] if isinstance(described, list) else []
    )
