"""What differs between two JSON values, place by place; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgecompress.values import json_digest

Kind = Literal["added", "removed", "changed"]
LONG = 12
"""Entries of a list of plain values beyond which it is compared as a set, not by position."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs; `old` or `new` is None where there was or is none (see `kind`)."""

    key: str
    kind: Kind
    old: Any = None
    new: Any = None


def changes(old: object, new: object, key: str = "") -> tuple[Change, ...]:
    """Compare two JSON values key by key, lists by their longest common parts.

    >>> changes({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]})
    (Change(key='b[1]', kind='changed', old=2, new=3),)
    """
    return tuple(_changes(_plain(old), _plain(new), key))


def _changes(old: Any, new: Any, key: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            below = f"{key}.{name}" if key else str(name)
            if name not in new:
                yield Change(below, "removed", old=old[name])
            elif name not in old:
                yield Change(below, "added", new=new[name])
            else:
                yield from _changes(old[name], new[name], below)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, key)
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield Change(key, "changed", old, new)


def _lists(old: list[Any], new: list[Any], key: str) -> Iterator[Change]:
    left, right = ([json_digest(one) for one in each] for each in (old, new))
    if max(len(old), len(new)) > LONG and not any(isinstance(x, dict | list) for x in old + new):
        before, after = set(left), set(right)
        gone = [one for one, digest in zip(old, left, strict=True) if digest not in after]
        come = [one for one, digest in zip(new, right, strict=True) if digest not in before]
        if gone or come or left != right:
            yield Change(
                key, "changed", gone or f"{len(old)} entries", come or f"{len(new)} entries"
            )
        return
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        paired = min(i_end - i, j_end - j) if what == "replace" else 0
        for offset in range(paired):
            yield from _changes(old[i + offset], new[j + offset], f"{key}[{j + offset}]")
        if what != "equal":
            for at in range(i + paired, i_end):
                yield Change(f"{key}[{at}]", "removed", old=old[at])
            for at in range(j + paired, j_end):
                yield Change(f"{key}[{at}]", "added", new=new[at])


def _plain(value: Any) -> Any:
    """Make lists of tuples, as JSON would."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
