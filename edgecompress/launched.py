"""Which of several processes this one is, where a launcher (accelerate, torchrun, MPI) started it.

Standard library only: every command asks before it loads anything.
"""

from __future__ import annotations

import os

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where launchers say how many processes there are and which one this is (torch, then MPI's)."""


def process_count() -> int:
    """Give how many processes were launched together."""
    return _first(SIZES, 1)


def process_rank() -> int:
    """Give which of them this is, from 0; the first is the main one."""
    return _first(RANKS, 0) if process_count() > 1 else 0


def _first(names: tuple[str, ...], otherwise: int) -> int:
    found = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdigit()), otherwise)
