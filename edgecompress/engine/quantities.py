"""Numbers with units, as budgets write them: ``25MB``, ``5ms``, ``3x``, ``1%``.

A size, a time or an amount of energy without a unit is refused: whoever writes ``size: {max: 25}``
means megabytes, and bytes would be taken.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
ENERGIES = {"mj": 1.0, "j": 1e3}
SHARES = {"x": 1.0, "%": 1e-2}
UNITS = {**SIZES, **TIMES, **ENERGIES, **SHARES}
"""Suffixes, in the units of `Measurement`: bytes, milliseconds, millijoules, ratios, fractions."""

WRITTEN = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*([a-zA-Z%]+)\s*")

KINDS: tuple[tuple[tuple[str, ...], dict[str, float], str, str], ...] = (
    (("size", "download_size", "load_memory", "peak_memory", "memory_rise", "pss"), SIZES,
     "B, kB, MB, GB, KiB, MiB or GiB", "25MB"),
    (("latency_p50", "latency_p90", "latency_p99", "end_to_end_p50", "load_time",
      "first_inference"), TIMES, "us, ms or s", "5ms"),
    (("energy",), ENERGIES, "mJ or J", "3mJ"),
)  # fmt: skip
"""Metrics that need a unit: their units, these in words, and an example."""
RATIOS = ("compression", "speedup")
PLAIN = ("temperature", "instructions")
"""Metrics whose bounds are numbers without a unit: °C, a count."""


def parse_quantity(value: Any) -> Any:
    """Turn ``10MB``, ``5ms``, ``3x`` or ``1%`` into a number; numbers pass through."""
    if isinstance(value, str):
        match = WRITTEN.fullmatch(value)
        if match and match[2].lower() in UNITS:
            return float(match[1]) * UNITS[match[2].lower()]
        if match:
            raise ValueError(
                f"unknown unit {match[2]!r}; known: B, kB, MB, GB, KiB, MiB, GiB, us, ms, s, mJ, "
                "J, x, %"
            )
    return value


Quantity = Annotated[float, BeforeValidator(parse_quantity), Field(allow_inf_nan=False)]


def check_bound(metric: str, bound: str, written: Any, value: float) -> None:
    """Refuse a bound whose unit is missing, or is none of its metric's.

    Parameters
    ----------
    metric : str
    bound : str
        ``max``, ``min``, ``max_drop``, ``max_ratio`` or ``min_ratio``.
    written : str or number
        As it stands in the recipe.
    value : float
        What was read of it.

    Raises
    ------
    ValueError
        Saying which units there are.
    """
    match = WRITTEN.fullmatch(written) if isinstance(written, str) else None
    unit = match[2].lower() if match else ""
    if bound.endswith("_ratio") or metric in RATIOS:
        if unit and unit not in SHARES:
            raise ValueError(f"a ratio is written as 0.5, 2x or 50%, not as {written}")
        return
    kind = next((kind for kind in KINDS if metric in kind[0]), None)
    if kind is not None:
        if unit not in kind[1] and value != 0:
            what = "has no unit" if not unit else f"is no {_what(kind[1])}"
            raise ValueError(f"{written} {what}; write it with one of {kind[2]}, such as {kind[3]}")
        return
    if unit and unit != "%":
        raise ValueError(f"{metric} has no unit like {match[2] if match else unit}; write a number")
    whole = bound == "max_drop" and value == 1 and not unit  # who writes 1 means one point
    if metric not in PLAIN and (abs(value) > 1 or whole):
        raise ValueError(
            f"{metric} is a fraction from 0 to 1, and {written} is all of it or more; write 0.01 "
            "or 1% for one point"
        )


def _what(units: dict[str, float]) -> str:
    return {id(SIZES): "size", id(TIMES): "time", id(ENERGIES): "amount of energy"}[id(units)]
