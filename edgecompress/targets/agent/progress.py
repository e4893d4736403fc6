"""How far the agent is, for the one who started it."""

from __future__ import annotations

import json
import os
import sys
import time


class Progress:
    """Tells the host on standard output how far the job is, at most twice a second."""

    def __init__(self, total: float) -> None:
        self._total, self._said = total, time.monotonic()
        self._parent = os.getppid() if os.environ.get("EDGECOMPRESS_DIE_WITH_PARENT") else None

    def __call__(self, done: float) -> None:
        """Say that `done` of the total is done."""
        now = time.monotonic()
        if now - self._said < 0.5:
            return
        self._said = now
        if self._parent is not None and os.getppid() != self._parent:
            sys.exit("the process that started this one is gone")
        print(json.dumps({"done": min(done, self._total), "total": self._total}), flush=True)
