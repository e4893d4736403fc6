"""Values of options that click has no type for: lists of numbers, names with numbers, durations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import click

Callback = Callable[[click.Context, click.Parameter, str | None], tuple[int, ...]]
MILLISECONDS = {"ms": 1.0, "s": 1e3, "min": 6e4}


class AutoOr(click.ParamType[Any]):
    """A whole number from 1, or ``auto``."""

    name = "auto|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Read what was typed."""
        if value == "auto":
            return "auto"
        if not (str(value).isascii() and str(value).isdigit() and int(value) >= 1):
            self.fail(f"{value!r} is neither auto nor a whole number from 1", param, ctx)
        return int(value)


def whole(low: int | None = None, high: int | None = None) -> click.IntRange:
    """Give the type of a whole number in a range, in words for who types something else."""
    found = click.IntRange(low, high)
    found.name = "whole number"
    return found


def number(
    low: float | None = None, high: float | None = None, *, above: bool = False
) -> click.FloatRange:
    """Give the type of a number in a range; with `above` it is more than `low`."""
    found = click.FloatRange(low, high, min_open=above)
    found.name = "number"
    return found


def whole_numbers(least: int) -> Callback:
    """Give a callback that reads ``1,2,4``, each at least `least`; doubles count once."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
        if value is None:
            return ()
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(
                f"{value!r} is no list of whole numbers from {least} on, such as 1,2,4"
            )
        return tuple(dict.fromkeys(int(part) for part in parts))

    return read


def named_columns(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Read ``NAME=COLUMN``, which may be given several times."""
    wrong = next((value for value in values if not re.fullmatch(r"\w+=.+", value)), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} is not NAME=COLUMN, such as text=headline")
    return dict(value.split("=", 1) for value in values)


def named_sizes(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    """Read ``NAME=N``, which may be given several times."""
    found = {}
    for value in values:
        match = re.fullmatch(r"(.+)=(\d+)", value)
        if match is None:
            raise click.BadParameter(f"{value!r} is not NAME=N with a whole number")
        found[match[1]] = int(match[2])
    return found


def named_bounds(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int | tuple[int, int]]:
    """Read ``NAME=N`` and ``NAME=LOW:HIGH``, which may be given several times."""
    found: dict[str, int | tuple[int, int]] = {}
    for value in values:
        match = re.fullmatch(r"(.+)=(?:(-?\d+):)?(-?\d+)", value)
        if match is None:
            raise click.BadParameter(f"{value!r} is not NAME=N or NAME=LOW:HIGH with whole numbers")
        high = int(match[3])
        found[match[1]] = high if match[2] is None else (int(match[2]), high)
    return found


def milliseconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read ``10s``, ``500ms`` or ``1.5min``."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) *(ms|s|min)", value.strip())
    if match is None or not float(match[1]):
        raise click.BadParameter(f"{value!r} is no time with its unit, such as 10s or 500ms")
    return float(match[1]) * MILLISECONDS[match[2]]
