"""How often a process of ours looks for garbage that refers to itself.

Standard library only: the command line asks before it loads anything.
"""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 100)
"""Python's own are 700, 10 and 10, made for small programs."""


def collect_rarely() -> None:
    """Look through young objects after 50,000 new ones, and not after 700.

    PyTorch and transformers make a million objects that stay; looking through them again and again
    takes a seventh of the time of an import and an export. Arrays and tensors are freed as before,
    when nothing refers to them.
    """
    gc.set_threshold(*THRESHOLDS)
