"""JSON from a stranger: read whole and in one sense only, or refused."""

from __future__ import annotations

import json
import math
from typing import Any

from edgecompress.values import Json

MOST_BYTES = 64 << 20
MOST_DEPTH = 64
MOST_VALUES = 500_000
"""Values in a document, as its commas and brackets count them: what is built of them takes up to
thirty times their bytes. The largest manifest of a run has some thousands."""


def strict_json(text: bytes, most_values: int = MOST_VALUES) -> Any:
    """Read JSON of at most 64 MiB and 64 levels, with no key twice and finite numbers only.

    Raises
    ------
    ValueError
        Saying in a sentence what is wrong.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    if sum(text.count(sign) for sign in (b",", b"[", b"{")) > most_values:
        raise ValueError(f"more than {most_values:,} values")
    try:
        document = json.loads(
            text.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_once,
        )
        _check_depth(document)
        json.dumps(document, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        said = str(error).splitlines()[0][:200].encode("utf-8", "backslashreplace").decode()
        raise ValueError(f"not valid JSON ({said})") from None
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return found


def _check_depth(document: Any) -> None:
    """Refuse what lies deeper than any manifest: whoever walks it may do so by recursion."""
    level = [document]
    for _ in range(MOST_DEPTH):
        containers = [node for node in level if isinstance(node, dict | list)]
        level = [
            item
            for node in containers
            for item in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MOST_DEPTH} deep")
