"""How numbers, metrics and limits are written for people: points, MB, ms, ×; pure.

Files hold fractions and bytes, screens show points (×100) and MB (10⁶ bytes).
"""

from __future__ import annotations

import math
import re
import unicodedata

from edgecompress.all_metrics import metric as declared
from edgecompress.all_metrics import metrics
from edgecompress.results import Limit
from edgecompress.values import Measurement

MISSING = "–"
UNITS = {
    "fraction": "points",
    "bytes": "MB",
    "ms": "ms",
    "x": "×",
    "1/s": "per s",
    "count": "",
}
"""What stands beside a number; a unit that is not here is shown as it is."""


def sign(unit: str) -> str:
    """Give what stands beside a number of `unit`."""
    return UNITS.get(unit, unit)


NAME_MARKS = "\ue000", "\ue001"
"""Characters for private use that mark a name in a text (`edgecompress.report.blocks.name`)."""
_UNWANTED = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), *map(ord, NAME_MARKS)])


def harmless(text: object) -> str:
    """Keep a text on one line: no control characters, no direction overrides, no marks."""
    clean = "".join(
        " " if unicodedata.category(character) == "Cc" else character for character in str(text)
    )
    return clean.translate(_UNWANTED)


def plain(text: object) -> str:
    """Make any text `harmless`, without blanks that stand at its ends or side by side."""
    return re.sub(r" {2,}", " ", harmless(text)).strip()


def title(metric: str) -> str:
    """Name a metric as a heading does; ``f1_drop`` becomes ``F1 lost``."""
    return plain(declared(metric).title)


def short(metric: str) -> str:
    """Name a metric as a narrow column does."""
    return declared(metric).short or title(metric)


def place(metric: str) -> tuple[int, str]:
    """Give where a metric stands in a list: as declared, a loss with what it is a loss of."""
    order = list(metrics())
    known = declared(metric)
    name = known.of or known.name
    return order.index(name) if name in order else len(order), metric


def label(metric: str) -> str:
    """Name a metric inside a sentence: ``size``, ``F1``, ``latency p50``."""
    name = title(metric)
    keep = name[:2].isupper() or any(character.isdigit() for character in name[:2])
    return name if keep else name[:1].lower() + name[1:]


def significant(value: float, digits: int = 3) -> str:
    """Write `value` with about three significant digits and never in exponents.

    >>> significant(0.01234), significant(3.4), significant(123.45), significant(12345)
    ('0.0123', '3.40', '123', '12,345')
    """
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, min(6, digits - 1 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}".replace("-", "−")


def number(value: float, unit: str) -> str:
    """Write `value` of `unit` without the unit's sign.

    >>> number(0.7832, "fraction"), number(22_812_004, "bytes"), number(3.41, "ms")
    ('78.32', '22.8', '3.41')
    """
    if not math.isfinite(value):
        return MISSING
    if unit == "fraction":
        return f"{value * 100:.2f}".replace("-", "−")
    if unit == "bytes":
        return significant(value / 1e6)
    if unit == "x":
        return times(value)
    if unit == "count":
        return f"{value:,.0f}"
    return significant(value)


def times(value: float) -> str:
    """Write a ratio: one decimal from ten on, else two.

    >>> times(4.912), times(12.34)
    ('4.91', '12.3')
    """
    if not math.isfinite(value):
        return MISSING
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def with_unit(value: float, unit: str) -> str:
    """Write `value` with its unit: ``22.8 MB``, ``4.91×``, ``0.58 points``."""
    text = number(value, unit)
    if text == MISSING or unit == "count":
        return text
    if unit == "fraction" and text == "1.00":
        return "1 point"
    sign = UNITS.get(unit, unit)
    return f"{text}×" if unit == "x" else f"{text} {sign}".rstrip()


def signed(value: float, unit: str) -> str:
    """Write a difference with its sign; a true minus, and none before zero."""
    text = number(value, unit)
    shown_zero = not text.strip("0.,−")
    if text == MISSING:
        return text
    if shown_zero:
        return text.lstrip("−")
    return text if value < 0 else f"+{text}"


def span(interval: tuple[float, float] | None, unit: str, *, sign: bool = False) -> str:
    """Write an interval as ``3.30–3.52``, or with signs; empty when there is none."""
    if interval is None or not all(math.isfinite(end) for end in interval):
        return ""
    if sign:
        return f"{signed(interval[0], unit)} to {signed(interval[1], unit)}"
    return f"{number(interval[0], unit)}–{number(interval[1], unit)}"


def turned(lost: Measurement) -> tuple[str, str]:
    """Write a loss as a change of the metric: the change, and its interval.

    A loss of F1 is negative then, and one of perplexity, of which less is better, is not.
    """
    if rises(declared(lost.metric).of):
        return signed(lost.value, lost.unit), span(lost.interval, lost.unit, sign=True)
    low_high = lost.interval and (-lost.interval[1], -lost.interval[0])
    return signed(-lost.value, lost.unit), span(low_high, lost.unit, sign=True)


def rises(name: str) -> bool:
    """Whether the metric `name` of answers rises as they get worse, as perplexity does."""
    found = metrics().get(name)
    return found is not None and not found.higher_is_better


def counted(number: object, what: str) -> str:
    """Write a number of things: ``1 thread``, ``4 threads``."""
    text = f"{number:,}" if isinstance(number, int) else f"{number}"
    return f"{text} {what}{'' if text == '1' else 's'}"


def measured(found: Measurement | None) -> str:
    """Write a measurement with its unit; ``–`` when it is missing."""
    return MISSING if found is None else with_unit(found.value, found.unit)


def millions(found: Measurement) -> str:
    """Write a count in millions."""
    return significant(found.value / 1e6)


def limit_words(limit: Limit) -> str:
    """Say a budget's line: ``F1 at most 1 point under the teacher``."""
    metric = declared(limit.metric)
    unit, way = metric.unit, "under" if metric.higher_is_better else "over"
    parts = []
    if limit.max is not None:
        parts.append(f"at most {_tidy(limit.max, unit)}")
    if limit.min is not None:
        parts.append(f"at least {_tidy(limit.min, unit)}")
    if limit.max_drop is not None:
        parts.append(f"at most {_tidy(limit.max_drop, unit)} {way} the teacher")
    if limit.max_ratio is not None:
        parts.append(f"at most {times(limit.max_ratio)}× the teacher's")
    if limit.min_ratio is not None:
        parts.append(f"at least {times(limit.min_ratio)}× the teacher's")
    where = f" of every {limit.each}" if limit.each else ""
    where += f" on {plain(limit.target)}" if limit.target else ""
    return f"{title(limit.metric)}{where} {' and '.join(parts)}".strip()


def _tidy(value: float, unit: str) -> str:
    """Write a bound that a person chose without the zeros that a measurement would show."""
    scaled = value * 100 if unit == "fraction" else value / 1e6 if unit == "bytes" else value
    text = f"{scaled:,.4f}".rstrip("0").rstrip(".").replace("-", "−")
    if unit == "x":
        return f"{text}×"
    if unit == "fraction":
        return f"{text} point" if text == "1" else f"{text} points"
    return f"{text} {UNITS.get(unit, unit)}".strip()


def duration(seconds: float) -> str:
    """Write a duration: ``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``.

    >>> duration(45), duration(725), duration(11100), duration(187200)
    ('45 s', '12 min', '3 h 05 min', '2 d 4 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def superscript(numbers: tuple[int, ...]) -> str:
    """Write footnote marks: ``¹`` or ``¹˒²``."""
    return "˒".join(
        str(one).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")) for one in numbers
    )
