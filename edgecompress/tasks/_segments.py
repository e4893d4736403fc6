"""What is said when: the parts of a transcript that lie between its times.

A model writes the time at which a segment begins, its words, and the time at which it ends. Times
count from the beginning of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

Segment = tuple[int, int | None, list[int]]
"""When it begins and ends, counted in times (None: with its window), and its tokens."""


def segments_of(tokens: Sequence[int], first: int) -> tuple[list[Segment], int | None]:
    """Divide what a model wrote of a window, and say where the next window begins.

    Where the window ends within a segment, the next one begins with that segment; its words here
    are left out, as the window holds a part of them only.

    Source: the original code of Whisper (`transcribe`), transformers' `_retrieve_segment`.

    Parameters
    ----------
    tokens : sequence of int
        Without what is forced, and without the one that ends it.
    first : int
        The token of time 0.

    Returns
    -------
    segments : list of (int, int or None, list of int)
    moved : int or None
        The time at which the next window begins; None: behind this one.
    """
    ids = [int(one) for one in tokens]
    timed = [one >= first for one in ids]
    ends = [at + 1 for at in range(len(ids) - 1) if timed[at] and timed[at + 1]]
    if not ends:
        times = [one - first for one in ids if one >= first]
        return [(0, times[-1] if times and times[-1] else None, _words(ids, first))], None
    moved = None if timed[-2:] == [False, True] else ids[ends[-1] - 1] - first
    found: list[Segment] = []
    begin = 0
    for end in [*ends, len(ids)] if moved is None else ends:
        part = ids[begin:end]
        found.append((part[0] - first, part[-1] - first, _words(part, first)))
        begin = end
    return found, moved


def _words(ids: Sequence[int], first: int) -> list[int]:
    return [one for one in ids if one < first]


def clock(seconds: float) -> str:
    """Write a time as ``1:02.34``, minutes and seconds."""
    hundredths = round(100 * seconds)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"
