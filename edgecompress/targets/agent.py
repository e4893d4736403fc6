"""The agent: one file that times models and takes their answers, in a fresh process, anywhere.

``python agent.py FOLDER`` reads ``job.json`` and ``inputs.npz`` there and writes
``outputs-<model>.npz`` (mode ``answers``) and, last of all and renamed into place,
``readings.json``. It needs the standard library, numpy and onnxruntime; `tokenizers` only when a
model of the job names a tokenizer. It judges nothing: raw nanoseconds and bytes go back.

job.json::

    {"mode": "time" | "answers" | "cold", "threads": 1, "outputs": ["logits"] | null,
     "warmup_ms": 300, "min_duration_ms": 2000, "max_duration_ms": 60000, "min_count": 400,
     "models": [{"name": …, "path": "model.onnx" | null, "kind": "onnx", "feeds": 0,
                 "session": {"graph_optimization_level": "all", "disabled_optimizers": [],
                             "config_entries": []},
                 "tokenizer": null | {"path": "tokenizer.json", "max_length": 512}}],
     "texts": ["a text" | ["its", "words"], …]}

A model whose path is null does nothing; its readings are the harness's own cost. Several models
are timed interleaved, inference by inference, over the same inputs, so that a disturbance meets
all of them. An input (`item`) is one example; a long one may be several rows (windows), which are
then run one after the other and timed together.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by onnxruntime when it is imported

import numpy as np

Feed = dict[str, np.ndarray]
TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class Opened(Protocol):
    """A loaded model: the dtype of each of its inputs, and a function from feed to outputs."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Give the dtype of each input, by its name."""
        ...

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference; every output in the order of the job's ``outputs``."""
        ...


class Null:
    """The model that does nothing."""

    dtypes: Mapping[str, np.dtype[Any]] = {}

    def __call__(self, _feed: Feed, /) -> Sequence[np.ndarray]:
        """Do nothing."""
        return ()


class Session:
    """An ONNX Runtime session on the CPU with the settings that belong to the model."""

    def __init__(self, entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> None:
        import onnxruntime as ort

        settings = entry.get("session") or {}
        options = ort.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        level = settings.get("graph_optimization_level", "all")
        name = "ORT_DISABLE_ALL" if level == "disable" else f"ORT_ENABLE_{level.upper()}"
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)
        if job["mode"] == "answers":  # nothing is timed: leave idle cores to others
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for key, value in settings.get("config_entries", ()):
            options.add_session_config_entry(key, value)
        self._session = ort.InferenceSession(
            str(folder / entry["path"]),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.get("disabled_optimizers", ())) or None,
        )
        self.dtypes = {found.name: _dtype(found.type) for found in self._session.get_inputs()}
        names = [found.name for found in self._session.get_outputs()]
        self._outputs = job.get("outputs") or names[:1]

    def __call__(self, feed: Feed, /) -> Sequence[np.ndarray]:
        """Run one inference."""
        answer: Sequence[np.ndarray] = self._session.run(self._outputs, feed)
        return answer


def _dtype(name: str) -> np.dtype[Any]:
    """Numpy's dtype for ONNX Runtime's ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))


def open_onnx(entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> Opened:
    """Open the job's `entry`; relative paths are below `folder`."""
    return Null() if entry["path"] is None else Session(entry, job, folder)


def import_onnxruntime() -> None:
    """Load the bare runtime, so that a model's memory can be told from it."""
    import onnxruntime  # noqa: F401


# --- arrays of differing shapes in one file --------------------------------------------------


def pack(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Put arrays of one dtype and rank, differing in shape, into two flat ones.

    Returns
    -------
    dict
        ``<name>/data`` (elements of all arrays) and ``<name>/shapes``, int64 (count, rank).
    """
    data = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
    shapes = np.array([array.shape for array in arrays], dtype=np.int64)
    return {f"{name}/data": data, f"{name}/shapes": shapes}


def unpack(name: str, stored: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Give back what `pack` was given."""
    data, shapes = stored[f"{name}/data"], stored[f"{name}/shapes"]
    start, arrays = 0, []
    for shape in shapes.tolist():
        end = start + math.prod(shape)
        arrays.append(data[start:end].reshape(shape))
        start = end
    return arrays


def read_items(stored: Mapping[str, np.ndarray], feeds: int) -> list[list[Feed]]:
    """Read set number `feeds` of ``inputs.npz``: for each item the feeds of its rows."""
    prefix = f"{feeds}/"
    names = [
        key.removeprefix(prefix).removesuffix("/shapes")
        for key in stored
        if key.startswith(prefix) and key.endswith("/shapes")
    ]
    items = stored[f"{feeds}/items"]
    columns = {name: unpack(prefix + name, stored) for name in names}
    found: list[list[Feed]] = [[] for _ in range(int(items.max()) + 1 if len(items) else 0)]
    for row, item in enumerate(items):
        found[int(item)].append({name: columns[name][row] for name in names})
    return found


def _cast(items: list[list[Feed]], model: Opened) -> list[list[Feed]]:
    """Give the model just those inputs that it has, in its dtypes."""
    return [
        [
            {
                name: row[name].astype(kind, copy=False)
                for name, kind in model.dtypes.items()
                if name in row
            }
            for row in rows
        ]
        for rows in items
    ]


# --- what the machine says of itself ---------------------------------------------------------


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _numbers(pattern: str) -> list[float]:
    found = []
    for path in sorted(Path("/sys").glob(pattern)):
        text = _read(path)
        if text is not None and text.lstrip("-").isdigit():
            found.append(float(text))
    return found


def machine_state() -> dict[str, Any]:
    """Load, frequency, governor, temperature and throttling, as far as they can be read."""
    cpus = "devices/system/cpu/cpu[0-9]*"
    frequencies = _numbers(f"{cpus}/cpufreq/scaling_cur_freq")
    temperatures = _numbers("class/thermal/thermal_zone*/temp")
    throttles = _numbers(f"{cpus}/thermal_throttle/core_throttle_count")
    ticks = [int(value) for value in (_read("/proc/stat") or "cpu").split("\n")[0].split()[1:]]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "load_average": list(os.getloadavg()),
        "frequency_mhz": sum(frequencies) / len(frequencies) / 1e3 if frequencies else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": max(temperatures) / 1e3 if temperatures else None,
        "throttle_count": sum(throttles) if throttles else None,
        # Raspberry Pi's firmware: bits 0-3 are under-voltage, capped, throttled, soft limit.
        "pi_throttled": _read("/sys/devices/platform/soc/soc:firmware/get_throttled"),
        # The first eight fields: user nice system idle iowait irq softirq steal.
        "busy_ticks": sum(ticks[:3]) + sum(ticks[5:7]) if len(ticks) >= 8 else None,
        "steal_ticks": ticks[7] if len(ticks) >= 8 else None,
        "ticks_per_second": os.sysconf("SC_CLK_TCK"),
        "process_ns": time.process_time_ns(),
        "wall_ns": time.perf_counter_ns(),
        "involuntary_switches": usage.ru_nivcsw,
    }


def memory_bytes() -> tuple[int, int, str]:
    """Resident memory now, its peak, and where both were read.

    ``VmHWM`` is preferred: Linux lets ``ru_maxrss`` of a new process start at its parent's size.
    """
    fields = dict(
        line.split(":", 1) for line in (_read("/proc/self/status") or "").split("\n") if ":" in line
    )
    if "VmHWM" in fields and "VmRSS" in fields:
        now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak, "VmHWM"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return peak, peak, "ru_maxrss"


# --- the three modes -------------------------------------------------------------------------


class _Progress:
    """Tells the host on standard output how far the job is, at most twice a second."""

    def __init__(self, total: float) -> None:
        self._total, self._said = total, time.monotonic()
        self._parent = os.getppid() if os.environ.get("EDGECOMPRESS_DIE_WITH_PARENT") else None

    def __call__(self, done: float) -> None:
        now = time.monotonic()
        if now - self._said < 0.5:
            return
        self._said = now
        if self._parent is not None and os.getppid() != self._parent:
            sys.exit("the process that started this one is gone")
        print(json.dumps({"done": min(done, self._total), "total": self._total}), flush=True)


def _tokenize_one(entry: Mapping[str, Any], folder: Path) -> Callable[[Any], list[Feed]] | None:
    """Make the function that turns an example's text into feeds, or None."""
    if not entry.get("tokenizer"):
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / entry["tokenizer"]["path"]))
    tokenizer.enable_truncation(entry["tokenizer"]["max_length"])  # the rest: further windows
    tokenizer.no_padding()

    def run(text: str | list[str]) -> list[Feed]:
        first = tokenizer.encode(text, is_pretokenized=not isinstance(text, str))
        return [
            {
                "input_ids": np.array([window.ids], dtype=np.int64),
                "attention_mask": np.array([window.attention_mask], dtype=np.int64),
                "token_type_ids": np.array([window.type_ids], dtype=np.int64),
            }
            for window in (first, *first.overflowing)
        ]

    return run


def _rounds(
    models: Sequence[Opened],
    items: Sequence[list[list[Feed]]],
    tokenize: Sequence[Callable[[Any], list[Feed]] | None],
    texts: Sequence[Any],
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Run one item through every model, without end; yield its number and the nanoseconds.

    Who goes first rotates from item to item and from pass to pass: a fixed order would always
    give one model the caches that another left. Tokenization runs just before the model and is
    timed apart; the model then gets the host's own encoding, so both parts stay comparable.
    """
    clock, count, width = time.perf_counter_ns, len(items[0]), len(models)
    step = 0
    while True:
        turn, item = divmod(step, count)
        ns, tokenize_ns = [0] * width, [0] * width
        for place in range(width):
            index = (place + item + turn) % width
            model, rows, encode = models[index], items[index][item], tokenize[index]
            if encode is not None:
                start = clock()
                encode(texts[item])
                tokenize_ns[index] = clock() - start
            start = clock()
            for row in rows:
                model(row)
            ns[index] = clock() - start
        yield item, ns, tokenize_ns
        step += 1


def time_models(
    models: Sequence[Opened],
    items: Sequence[list[list[Feed]]],
    tokenize: Sequence[Callable[[Any], list[Feed]] | None],
    job: Mapping[str, Any],
) -> dict[str, Any]:
    """Time `models` interleaved over `items` until both minimum duration and count are reached.

    Ends after a whole pass over the items, so that each weighs the same, or at the maximum
    duration. Every model has its own encoding of the same items.
    """
    clock = time.perf_counter_ns
    steps = _rounds(models, items, tokenize, job.get("texts") or ())
    warm_until, warm_rounds = clock() + int(job["warmup_ms"] * 1e6), 0
    while clock() < warm_until or warm_rounds < 2:
        next(steps)
        warm_rounds += 1
    steps = _rounds(models, items, tokenize, job.get("texts") or ())
    progress = _Progress(1.0)
    order: list[int] = []
    ns: list[list[int]] = [[] for _ in models]
    tokenize_ns: list[list[int]] = [[] for _ in models]
    shortest, longest = job["min_duration_ms"] * 1e6, job["max_duration_ms"] * 1e6
    gc.collect()
    gc.disable()
    before, start = machine_state(), clock()
    for item, times, encode_times in steps:
        order.append(item)
        for index, value in enumerate(times):
            ns[index].append(value)
            tokenize_ns[index].append(encode_times[index])
        elapsed = clock() - start
        enough = elapsed >= shortest and len(order) >= job["min_count"]
        if (enough and len(order) % len(items[0]) == 0) or elapsed >= longest:
            break
        progress(min(elapsed / (shortest or 1), len(order) / (job["min_count"] or 1)))
    after = machine_state()
    gc.enable()
    return {
        "items": order,
        "ns": ns,
        "tokenize_ns": [
            column if encode is not None else None
            for column, encode in zip(tokenize_ns, tokenize, strict=True)
        ],
        "duration_ms": (clock() - start) / 1e6,
        "before": before,
        "after": after,
    }


def _answers(model: Opened, items: list[list[Feed]], file: Path) -> None:
    """Run every row alone and write all outputs, aside first and then renamed."""
    progress, columns = _Progress(len(items)), list[list[np.ndarray]]()
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
    fed = _cast(items, model)
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
            _answers(model, _cast(items[index], model), folder / f"outputs-{index}.npz")
    else:
        models = [open_model(entry, job, folder) for entry in entries]
        fed = [_cast(rows, model) for rows, model in zip(items, models, strict=True)]
        tokenize = [_tokenize_one(entry, folder) for entry in entries]
        readings["time"] = time_models(models, fed, tokenize, job)
    aside = folder / "readings.json.part"
    aside.write_text(json.dumps(readings), encoding="utf-8")
    aside.replace(folder / "readings.json")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python agent.py FOLDER")
    run_job(Path(sys.argv[1]))
