"""The same bytes each time: how torch computes while a stage makes a candidate.

A sum in floating point depends on the order of its terms, and torch divides a sum among its
threads: another number of threads gives other last digits, and training makes more of them. With
one number of threads torch gives the same bytes on every run, whatever else the machine does and
however many cores it has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgecompress.provenance import closure


@contextmanager
def steady(module: str, threads: int | None) -> Iterator[None]:
    """While inside, torch uses deterministic algorithms and `threads` threads.

    Parameters
    ----------
    module : str
        The stage's module; where it does not use torch, nothing is done (torch is slow to import).
    threads : int or None
        None leaves the number that torch has found for this machine.
    """
    if "torch" not in closure(module)[1]:
        yield
        return
    import torch
    from torch.utils import deterministic

    strict = torch.are_deterministic_algorithms_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Filling is for finding reads of memory that nobody wrote; it costs a pass over each tensor.
    deterministic.fill_uninitialized_memory = False
    try:
        with torch_threads(threads or torch.get_num_threads()):
            yield
    finally:
        deterministic.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(strict)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While inside, torch computes with `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute_threads(named: int | None) -> int | None:
    """Give how many threads torch computes with: as many as are named, or as it has found.

    None where torch was not used.
    """
    torch = sys.modules.get("torch")
    return named or (torch.get_num_threads() if torch is not None else None)
