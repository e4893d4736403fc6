"""Numbers with units, as budgets write them: ``25MB``, ``5ms``, ``3x``, ``1%``.

A size, a time or an amount of energy without a unit is refused: whoever writes ``size: {max: 25}``
means megabytes, and bytes would be taken.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from edgecompress.metrics import Metric

SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
ENERGIES = {"mj": 1.0, "j": 1e3}
SHARES = {"x": 1.0, "%": 1e-2}
UNITS = {**SIZES, **TIMES, **ENERGIES, **SHARES}
"""Suffixes, in the units of `Measurement`: bytes, milliseconds, millijoules, ratios, fractions."""

WRITTEN = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*([a-zA-Z%]+)\s*")

KINDS: dict[str, tuple[dict[str, float], str, str, str]] = {
    "bytes": (SIZES, "size", "B, kB, MB, GB, KiB, MiB or GiB", "25MB"),
    "ms": (TIMES, "time", "us, ms or s", "5ms"),
    "mJ": (ENERGIES, "amount of energy", "mJ or J", "3mJ"),
}
"""Units of metrics whose bounds need one: how they may be written, what they measure, in words, and
an example."""


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


def check_bound(metric: Metric, bound: str, written: Any, value: float) -> None:
    """Refuse a bound whose unit is missing, or is none of its metric's.

    Parameters
    ----------
    metric : Metric
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
    if bound.endswith("_ratio") or metric.unit == "x":
        if unit and unit not in SHARES:
            raise ValueError(f"a ratio is written as 0.5, 2x or 50%, not as {written}")
        return
    if metric.unit in KINDS:
        units, kind, known, such_as = KINDS[metric.unit]
        if unit not in units and value != 0:
            what = "has no unit" if not unit else f"is no {kind}"
            raise ValueError(f"{written} {what}; write it with one of {known}, such as {such_as}")
        return
    if unit and unit != "%":
        written_unit = match[2] if match else unit
        raise ValueError(f"{metric.name} has no unit like {written_unit}; write a number")
    whole = bound == "max_drop" and value == 1 and not unit  # who writes 1 means one point
    if metric.unit == "fraction" and (abs(value) > 1 or whole):
        raise ValueError(
            f"{metric.name} is a fraction from 0 to 1, and {written} is all of it or more; "
            "write 0.01 or 1% for one point"
        )
