"""Hostile inputs by the thousand, and the judge of what the command line says to each.

A module of this folder that defines `GENERATORS` adds kinds: each maps a kind's name to a function
``generate(chance, folder, stock) -> Case`` that writes what it needs into the new `folder` and
gives the command line to try. The same seed makes the same case. `benchmarks/fuzz.py` runs them
for as long as asked, the suite a sample of fixed seeds.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import sys
from collections.abc import Callable
from pathlib import Path

from fuzzing.case import Case
from fuzzing.stock import Stock

Generator = Callable[[random.Random, Path, Stock], Case]


def generators() -> dict[str, Generator]:
    """Every kind by its name, sorted."""
    found: dict[str, Generator] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found |= getattr(module, "GENERATORS", {})
    return dict(sorted(found.items()))


def make_case(kind: str, seed: int, folder: Path, stock: Stock) -> Case:
    """Write the case `seed` of a kind into the new `folder`."""
    folder.mkdir(parents=True)
    sys.setrecursionlimit(20_000)  # some of the trees are deeper than Python's own limit
    return generators()[kind](random.Random(f"{kind} {seed}"), folder, stock)
