"""What the figures stand on: the row that any model must beat, and texts that were seen before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgecompress.data.overlap import Overlap, Quoted
from edgecompress.report import words
from edgecompress.results import FLOOR, Row, RunResult, Verdict


def floor_and_overlaps(result: RunResult) -> tuple[str, ...]:
    """Say what the floor answers, and how many texts stand in two splits or in a corpus."""
    return (*_floor(result), *_shared(result))


def below_floor(row: Row | None) -> Verdict | None:
    """Give the verdict of a candidate that, or whose teacher, does not beat the floor."""
    return next((one for one in row.verdicts if one.limit == FLOOR), None) if row else None


def _floor(result: RunResult) -> Iterator[str]:
    note = result.data.get("floor")
    if result.floor and isinstance(note, Mapping):
        yield (
            f"«{words.plain(result.floor)}» answers {words.plain(note.get('answers'))} (counted in "
            f"{words.plain(note.get('from'))}): a model that does not beat it has learned nothing."
        )


def _shared(result: RunResult) -> Iterator[str]:
    for key, kind in (("overlaps", Overlap), ("quoted", Quoted)):
        found = result.data.get(key)
        for one in found if isinstance(found, list | tuple) else ():
            try:
                said = kind(**one).words
            except (AttributeError, TypeError, ValueError, ZeroDivisionError):
                continue  # written by hand or by a later version
            yield f"{words.plain(said[0].upper() + said[1:])}."
