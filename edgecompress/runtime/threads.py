"""How many threads a model is fastest with on this machine: measured once, and remembered.

One per core is often not the best: a small model gains nothing from the fourth core of a board,
slow cores hold fast ones up, and a container may have less than what it sees. So a few counts are
tried for about a second, and the choice is kept in the user's cache folder, under a digest of the
machine, the bundle and the version of ONNX Runtime. What cannot be read or written there is no
error: it only is measured again. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LIMIT_S = 1.0
"""How long `fastest` may run inferences, in seconds, over all counts together."""

FORMAT = 1
_WARM_UP = 2  # runs that are not counted: the first ones ask for memory and start the threads
_LEAST = 3  # runs of each count, however slow the model
_GAIN = 0.95  # a larger count must be this much faster: cores are also needed by others
_LARGEST_FILE = 4096  # bytes; what `remember` writes has a few hundred


def usable_cores() -> int:
    """Count the physical cores that this process may use: its affinity and its share of them.

    A share is what a container is limited to (``cpu.max`` of its control group); of two hardware
    threads of a core one is counted. At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
    else:
        allowed = list(range(os.cpu_count() or 1))
    siblings = {
        _text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)
        for cpu in allowed
    }
    return max(1, min(len(siblings), _share()))


def counts(cores: int) -> tuple[int, ...]:
    """Give the thread counts to try on so many cores: each up to 4, then doubled, and all."""
    doubled = (2**power for power in range(3, cores.bit_length()))
    return tuple(sorted({*range(1, min(cores, 4) + 1), *doubled, cores}))


def fastest(
    prepare: Callable[[int], Callable[[], object]],
    tried: Sequence[int],
    *,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Time a model with each of some thread counts.

    Parameters
    ----------
    prepare : callable
        Opens the model with so many threads and gives a function that runs it once.
    tried : sequence of int
        The largest comes first: it is what would be used without measuring.
    limit_s : float
        Seconds over all counts, opening not counted. A count that no time is left for is not
        tried; one that was begun runs at least three times.
    clock : callable
        Gives seconds.

    Returns
    -------
    dict of int to float
        Median milliseconds of a run by the count; at least one.
    """
    found: dict[int, float] = {}
    spent = 0.0
    for position, count in enumerate(sorted(tried, reverse=True)):
        if found and spent >= limit_s:
            break
        run = prepare(count)
        began = clock()
        share = (limit_s - spent) / (len(tried) - position)
        for _ in range(_WARM_UP):
            run()
        times: list[float] = []
        while len(times) < _LEAST or clock() - began < share:
            start = clock()
            run()
            times.append(clock() - start)
        found[count] = sorted(times)[len(times) // 2] * 1e3
        spent += clock() - began
    return found


def choose(times: Mapping[int, float]) -> int:
    """Give the count to use: the smallest that none beats by more than 5 %.

    Parameters
    ----------
    times : mapping of int to float
        Milliseconds by count, from `fastest`.
    """
    best = min(times.values())
    return min(count for count, found in times.items() if found * _GAIN <= best)


def memory_file(bundle: str, onnxruntime: str) -> Path | None:
    """Give the file that remembers a choice; None where there is no home to keep it in.

    Parameters
    ----------
    bundle : str
        Digest of the bundle's core: its model and session settings are part of it.
    onnxruntime : str
        Its version.
    """
    folder = _cache_folder()
    if folder is None:
        return None
    known = [FORMAT, bundle, onnxruntime, *_machine()]
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return folder / "threads" / f"{key[:32]}.json"


def remembered(file: Path | None) -> int | None:
    """Read a choice; None where there is none, or what stands there is none."""
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            document = json.loads(stream.read(_LARGEST_FILE))
        count = document["threads"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return count if type(count) is int and 1 <= count <= (os.cpu_count() or 1) else None


def remember(file: Path | None, count: int, times: Mapping[int, float]) -> bool:
    """Write a choice, whole or not at all; False where nothing can be written."""
    if file is None:
        return False
    import tempfile  # only here, as it costs each start some milliseconds

    document = {
        "threads": count,
        "ms": {str(tried): round(found, 4) for tried, found in sorted(times.items())},
    }
    aside = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=".", dir=file.parent)
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
            json.dump(document, stream)
        Path(aside).replace(file)
    except OSError:
        if aside is not None:
            with contextlib.suppress(OSError):
                Path(aside).unlink()
        return False
    return True


def _machine() -> list[str | int]:
    """Say what the choice depends on; no host name, which in a container is a new one each time."""
    fields = ("model name", "CPU implementer", "CPU part", "CPU variant")
    lines = (_text("/proc/cpuinfo") or "").splitlines()
    parts = sorted({line for line in lines if line.partition(":")[0].strip() in fields})
    board = _text("/proc/device-tree/model") or ""
    return [platform.machine(), board, *parts, os.cpu_count() or 1, usable_cores()]


def _share() -> int:
    """Cores that the control group grants, rounded up; as good as endless where it does not say."""
    quota, _, period = (_text("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    if quota == "max":  # version 1 of control groups
        quota = _text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "-1"
        period = _text("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or "100000"
    try:
        granted = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return sys.maxsize
    return math.ceil(granted) if granted > 0 else sys.maxsize


def _cache_folder() -> Path | None:
    """Give the user's cache folder, as platformdirs does on Linux; it need not exist.

    None for a user without a home, such as a number that a container was given.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.expanduser may raise
    return Path(base) / "edgecompress" if base.startswith("/") else None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None
