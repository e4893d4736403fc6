"""An agent on a board ends with the connection that started it, and times alone.

The one who starts the agent asks for both by environment variables:

``EDGECOMPRESS_WATCHDOG``
    Seconds. The host sends a byte on standard input every few of them; when that ends, or none
    came for so long, the agent ends at once: nobody would read what it finds.
``EDGECOMPRESS_LOCK``
    A file on the board that is locked while this agent runs, so that two hosts never time there
    at once.

Neither disturbs a timing: one thread sleeps in `select` and wakes for each byte.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time

ENDED = 75
"""Exit status of an agent that lost its host (EX_TEMPFAIL of sysexits.h: try again)."""
_held: list[int] = []  # descriptors of locks; closed, and so unlocked, by the end of the process


def start() -> None:
    """Do what the environment asks for; returns once the board is this agent's alone."""
    seconds = os.environ.get("EDGECOMPRESS_WATCHDOG")
    if seconds:
        threading.Thread(target=_watch, args=(float(seconds),), daemon=True).start()
    lock = os.environ.get("EDGECOMPRESS_LOCK")
    if lock:
        hold(lock)


def _watch(seconds: float) -> None:
    while True:
        ready, _, _ = select.select([0], [], [], seconds)
        if not ready or not os.read(0, 4096):
            os.write(2, b"the host that started this agent is gone\n")
            os._exit(ENDED)


def hold(path: str, poll_s: float = 1.0, tell_s: float = 10.0) -> None:
    """Lock the file `path` until this process ends; says so while it waits for another.

    Parameters
    ----------
    path : str
        Made if it is missing; its folder must be there.
    poll_s, tell_s : float
        Seconds between two tries, and between two lines of progress.
    """
    import fcntl  # not on every system that runs the agent as a target of its own

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    said = -tell_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            pass
        now = time.monotonic()
        if now - said >= tell_s:
            said = now
            line = {"done": 0, "total": 1, "what": "waiting for another timing on this board"}
            print(json.dumps(line), flush=True)
        time.sleep(poll_s)
    _held.append(descriptor)
