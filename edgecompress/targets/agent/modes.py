"""What a job can ask for, and the one function that does a job."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.targets.agent.arrays import Feed, pack, read_items
from edgecompress.targets.agent.counting import count
from edgecompress.targets.agent.loop import time_models, tokenizer
from edgecompress.targets.agent.progress import Progress
from edgecompress.targets.agent.sensors import machine_state, memory_bytes
from edgecompress.targets.agent.sessions import Opened, cast, import_onnxruntime, open_onnx


def _answers(model: Opened, items: list[list[Feed]], file: Path) -> None:
    """Run every row alone and write all outputs, aside first and then renamed."""
    progress, columns = Progress(len(items)), list[list[np.ndarray]]()
    for done, rows in enumerate(items):
        for row in rows:
            outputs = model(row)
            columns = columns or [[] for _ in outputs]
            for column, output in zip(columns, outputs, strict=True):
                column.append(np.asarray(output))
        progress(done + 1)
    packed: dict[str, np.ndarray] = {}
    for index, column in enumerate(columns):
        packed |= pack(str(index), column)
    aside = file.with_suffix(".part")
    with aside.open("wb") as stream:
        np.savez(stream, **packed)  # type: ignore[arg-type]
    aside.replace(file)


def _cold(
    entry: Mapping[str, Any],
    job: Mapping[str, Any],
    folder: Path,
    items: list[list[Feed]],
    open_model: Callable[[Mapping[str, Any], Mapping[str, Any], Path], Opened],
) -> dict[str, Any]:
    """Load one model, run its first inference, then every item once for the memory's peak."""
    clock = time.perf_counter_ns
    bare_bytes, _, source = memory_bytes()
    start = clock()
    model = open_model(entry, job, folder)
    load_ns = clock() - start
    fed = cast(items, model)
    start = clock()
    for row in fed[0]:
        model(row)
    first_ns = clock() - start
    for rows in fed:
        for row in rows:
            model(row)
    return {
        "load_ns": load_ns,
        "first_ns": first_ns,
        "bare_bytes": bare_bytes,
        "peak_bytes": memory_bytes()[1],
        "memory_source": source,
    }


def run_job(
    folder: Path,
    open_model: Callable[[Mapping[str, Any], Mapping[str, Any], Path], Opened] = open_onnx,
    import_runtime: Callable[[], None] = import_onnxruntime,
) -> None:
    """Do the job in `folder` and write its ``readings.json``."""
    import_runtime()
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with np.load(folder / "inputs.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    entries = job["models"]
    items = [read_items(arrays, entry["feeds"]) for entry in entries]
    readings: dict[str, Any] = {"mode": job["mode"], "python": sys.version.split()[0]}
    if job["mode"] == "cold":
        readings["state"] = machine_state()
        readings["cold"] = _cold(entries[0], job, folder, items[0], open_model)
    elif job["mode"] == "answers":
        for index, entry in enumerate(entries):
            model = open_model(entry, job, folder)
            _answers(model, cast(items[index], model), folder / f"outputs-{index}.npz")
    elif job["mode"] == "instructions":
        readings["instructions"] = count(entries, items, job, folder, open_model)
    else:
        models = [open_model(entry, job, folder) for entry in entries]
        fed = [cast(rows, model) for rows, model in zip(items, models, strict=True)]
        tokenize = [tokenizer(entry, folder) for entry in entries]
        readings["time"] = time_models(models, fed, tokenize, job)
    aside = folder / "readings.json.part"
    aside.write_text(json.dumps(readings), encoding="utf-8")
    aside.replace(folder / "readings.json")
