"""The files of a job: what the agent is given, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgecompress.disturbance import Loop, loop_from_states
from edgecompress.errors import TargetError
from edgecompress.targets.agent.arrays import pack, unpack
from edgecompress.targets.base import Job, JobModel, Readings
from edgecompress.targets.size import model_files
from edgecompress.timing import Series
from edgecompress.values import Json, OnnxModel, SessionSettings, TorchModel

Carry = Callable[[tuple[Path, ...]], str]


def write_job(job: Job, folder: Path, carry: Carry) -> None:
    """Write ``job.json`` and ``inputs.npz`` for the agent into `folder`.

    Parameters
    ----------
    job : Job
    folder : Path
    carry : callable
        Given the files of a model or a tokenizer, has them at the target and gives the path of
        the first there.
    """
    document = {
        "mode": job.mode,
        **job.fields(),
        "outputs": list(job.outputs) or None,
        "energy": job.energy,
        "likelihoods": job.likelihoods,
        "texts": [text if isinstance(text, str) else list(text) for text in job.texts],
        "models": [_entry(model, carry) for model in job.models],
    }
    arrays: dict[str, np.ndarray] = {}
    for index, feeds in enumerate(job.feeds):
        arrays[f"{index}/items"] = feeds.items
        for name, rows in feeds.arrays.items():
            arrays |= pack(f"{index}/{name}", rows)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    (folder / "job.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _entry(entry: JobModel, carry: Carry) -> Json:
    model = entry.model
    path, kind = None, "null"
    if isinstance(model, OnnxModel):
        path, kind = carry(model_files(model)), "onnx"
    elif isinstance(model, TorchModel):
        path, kind = str(model.directory.resolve()), "torch"  # on this machine only
    tokenizer = None
    if entry.tokenizer is not None:
        tokenizer = {"path": carry((entry.tokenizer,)), "max_length": entry.max_length}
    way = None
    if entry.way is not None:
        folder = entry.way.preprocessor
        way = asdict(entry.way) | {"preprocessor": folder and str(folder.resolve())}
    return {
        "path": path,
        "kind": kind,
        "feeds": entry.feeds,
        "session": asdict(model.session if isinstance(model, OnnxModel) else SessionSettings()),
        "tokenizer": tokenizer,
        "way": way,  # on this machine only
    }


def read_readings(job: Job, folder: Path, target: str, *, emulated: bool = False) -> Readings:
    """Read back what the agent left in `folder`.

    Parameters
    ----------
    job : Job
    folder : Path
    target : str
        For messages.
    emulated : bool
        Whether wall time means nothing there.

    Raises
    ------
    TargetError
        When the files are missing or damaged.
    """
    try:
        document = json.loads((folder / "readings.json").read_text(encoding="utf-8"))
        if job.mode == "answers":
            outputs = tuple(
                _outputs(folder / f"outputs-{index}.npz") for index in range(len(job.models))
            )
            return Readings(outputs=outputs)
        if job.mode == "cold":
            emulated = emulated or bool(document["state"]["emulated"])
            return Readings(cold=((document["cold"] | {"emulated": emulated},),))
        if job.mode == "operators":
            return Readings(
                operators=tuple(document["operators"]),
                loop=_loop(job, *document["states"], emulated=emulated),
            )
        if job.mode == "instructions":
            return Readings(instructions=tuple(document["instructions"]))
        found = document["time"]
        items = np.array(found["items"], dtype=np.int64)
        loop = _loop(
            job, found["before"], found["after"], duration_ms=found["duration_ms"],
            frequencies_mhz=found["frequencies_mhz"], emulated=emulated,
        )  # fmt: skip
        return Readings(
            loop=loop,
            series=tuple(Series(np.array(ns, dtype=np.int64), items) for ns in found["ns"]),
            around=tuple(
                None if ns is None else Series(np.array(ns, dtype=np.int64), items)
                for ns in found["around_ns"]
            ),
            covers=tuple(found["covers"]),
            machine={"before": found["before"], "after": found["after"]},
            warmup=found["warmup"],
            energy=found["energy"] or {},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{target}: the agent's readings are damaged ({error})") from None


def _loop(
    job: Job,
    before: Json,
    after: Json,
    *,
    duration_ms: float | None = None,
    frequencies_mhz: Sequence[float] = (),
    emulated: bool,
) -> Loop:
    """Say what surrounded a loop; one without a duration of its own took what lies between."""
    between = (after["wall_ns"] - before["wall_ns"]) / 1e6
    return loop_from_states(
        before,
        after,
        duration_ms=between if duration_ms is None else duration_ms,
        wanted_ms=0.0 if duration_ms is None else job.min_duration_ms,
        threads=job.threads,
        cores=before["cores"],
        frequencies_mhz=frequencies_mhz,
        emulated=emulated,
    )


def _outputs(file: Path) -> tuple[list[np.ndarray], ...]:
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    count = sum(name.endswith("/shapes") for name in arrays)
    return tuple(unpack(str(index), arrays) for index in range(count))
