"""What goes back to the host."""

from __future__ import annotations

import json
import os
from typing import Any


class RequestRefusedError(Exception):
    """A request that cannot be done; the text says why."""


def write(document: dict[str, Any]) -> None:
    """Write a line; what a login printed without an end stays on a line of its own."""
    os.write(1, b"\n" + json.dumps(document).encode() + b"\n")
