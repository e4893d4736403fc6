"""What a job can ask for, and the one function that does a job."""

from __future__ import annotations

import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from edgecompress.targets.agent.around import Around, tokenizing
from edgecompress.targets.agent.arrays import Feed, likelihoods, pack, read_items
from edgecompress.targets.agent.counting import count
from edgecompress.targets.agent.loop import time_models
from edgecompress.targets.agent.operators import profile_operators
from edgecompress.targets.agent.progress import Progress
from edgecompress.targets.agent.sensors import (
    counters,
    machine_state,
    memory_bytes,
    pss_bytes,
    surroundings,
)
from edgecompress.targets.agent.sessions import LoadedModel, cast, import_onnxruntime, open_onnx

MODES = ("time", "answers", "cold", "operators", "instructions")


def _answers(
    model: LoadedModel, items: list[list[Feed]], file: Path, right: list[list[np.ndarray]]
) -> None:
    """Run every row alone and write all outputs, aside first and then renamed.

    `right` are the classes of each row where only their likelihoods are wanted, else empty.
    """
    progress, columns = Progress(len(items)), list[list[np.ndarray]]()
    for done, rows in enumerate(items):
        for number, row in enumerate(rows):
            outputs = model(row)
            if right:
                outputs = [likelihoods(outputs[0][0], right[done][number][0])[None]]
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
    open_model: Callable[[Mapping[str, Any], Mapping[str, Any], Path], LoadedModel],
) -> dict[str, Any]:
    """Load one model, run its first inference, then every item once for the memory's peak.

    Resident memory is ``bare_bytes`` with the runtime imported and ``loaded_bytes`` with the model
    loaded; what it rose to by then is ``load_peak_bytes``, and by the end ``peak_bytes``.
    """
    clock = time.perf_counter_ns
    bare_bytes, bare_peak, source = memory_bytes()
    start = clock()
    model = open_model(entry, job, folder)
    load_ns = clock() - start
    loaded_bytes, load_peak, _ = memory_bytes()
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
        "bare_peak_bytes": bare_peak,
        "loaded_bytes": loaded_bytes,
        "load_peak_bytes": load_peak,
        "peak_bytes": memory_bytes()[1],
        "pss_bytes": pss_bytes(),
        "memory_source": source,
    }


def bind(cores: Sequence[int]) -> None:
    """Bind this process to `cores`, before a library counts them and starts its threads."""
    if not cores:
        return
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("this system cannot bind a process to cores; leave affinity out")
    missing = sorted(set(cores) - os.sched_getaffinity(0))
    if missing:
        there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        sys.exit(f"there is no core {missing[0]} for this process; affinity may name {there}")
    os.sched_setaffinity(0, cores)


def _read_job(file: Path) -> dict[str, Any]:
    """Read ``job.json``; a damaged one ends the process in one sentence."""
    try:
        job = json.loads(file.read_text(encoding="utf-8"))
        if job["mode"] not in MODES:
            raise ValueError(f"mode {job['mode']!r}, and there are {', '.join(MODES)}")
        for name in ("threads", "models"):
            job[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        _damaged(file, error)
    return dict(job)


def _read_inputs(file: Path, entries: Sequence[Mapping[str, Any]]) -> list[list[list[Feed]]]:
    """Read ``inputs.npz``: for each model its items; as `_read_job` where it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        return [read_items(arrays, entry["feeds"]) for entry in entries]
    except ValueError:  # numpy's own text would advise to load it unsafely
        _damaged(file, ValueError("not the arrays of a job"))
    except (OSError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        _damaged(file, error)


def _damaged(file: Path, error: Exception) -> NoReturn:
    sys.exit(
        f"{file} is missing or damaged ({type(error).__name__}: {error}); run the command again"
    )


def run_job(
    folder: Path,
    open_model: Callable[[Mapping[str, Any], Mapping[str, Any], Path], LoadedModel] = open_onnx,
    import_runtime: Callable[[], None] = import_onnxruntime,
    find_around: Callable[[Mapping[str, Any], Mapping[str, Any], Path], Around | None] = tokenizing,
) -> None:
    """Do the job in `folder` and write its ``readings.json``.

    Parameters
    ----------
    folder : Path
    open_model : callable
        Opens the model of an entry of the job.
    import_runtime : callable
        Loads what runs it, before its memory is read.
    find_around : callable
        Gives what is timed around the inferences of an entry, or None.
    """
    job = _read_job(folder / "job.json")
    bind(job.get("affinity") or ())
    import_runtime()
    entries = job["models"]
    items = _read_inputs(folder / "inputs.npz", entries)
    readings: dict[str, Any] = {"mode": job["mode"], "python": sys.version.split()[0]}
    if job["mode"] == "cold":
        readings["state"] = machine_state()
        readings["cold"] = _cold(entries[0], job, folder, items[0], open_model)
    elif job["mode"] == "answers":
        for index, entry in enumerate(entries):
            model = open_model(entry, job, folder)
            column = job.get("likelihoods")
            right = [[row[column] for row in rows] for rows in items[index]] if column else []
            _answers(model, cast(items[index], model), folder / f"outputs-{index}.npz", right)
    elif job["mode"] == "instructions":
        readings["instructions"] = count(entries, items, job, folder, open_model)
    elif job["mode"] == "operators":
        around = surroundings()
        before = around | counters()
        readings["operators"] = profile_operators(entries, items, job, folder)
        readings["states"] = [before, counters() | surroundings()]
    else:
        models = [open_model(entry, job, folder) for entry in entries]
        fed = [cast(rows, model) for rows, model in zip(items, models, strict=True)]
        ways = [find_around(entry, job, folder) for entry in entries]
        readings["time"] = time_models(models, fed, ways, job)
    aside = folder / "readings.json.part"
    aside.write_text(json.dumps(readings), encoding="utf-8")
    aside.replace(folder / "readings.json")
