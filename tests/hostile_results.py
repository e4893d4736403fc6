"""A result whose every text is HTML and script: a report must show it as text."""

from __future__ import annotations

from dataclasses import replace

from edgecompress.report.answers import Flip, Flips
from edgecompress.results import RunResult
from edgecompress.values import Measurement

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b> & {{ 7 * 7 }}"


def hostile(result: RunResult) -> RunResult:
    """Give every text of the result, as far as a report shows it, HTML and script in it."""

    def slice_of(one: Measurement) -> str | None:
        return f"{one.slice}{HOSTILE}" if one.slice else None

    rows = tuple(
        replace(
            row,
            name=row.name if row.kind == "reference" else f"{row.name}{HOSTILE}",
            lost=f"lost {HOSTILE}" if row.lost else None,
            error=f"error {HOSTILE}" if row.error else None,
            chain=tuple(f"{stage}{HOSTILE}" for stage in row.chain),
            stages=tuple({**entry, "stage": HOSTILE} for entry in row.stages),
            measurements=tuple(
                replace(one, slice=slice_of(one), invalid=HOSTILE if one.invalid else None)
                for one in row.measurements
            ),
        )
        for row in result.rows
    )
    return replace(
        result,
        name=HOSTILE,
        rows=rows,
        winner=f"{result.winner}{HOSTILE}",
        recipe={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE, "flags": [HOSTILE]},
        data={HOSTILE: {HOSTILE: [HOSTILE]}},
        command=HOSTILE,
        started=HOSTILE,
        answers={
            "split": HOSTILE,
            "counted": HOSTILE,
            "classes": [HOSTILE, "O"],
            "rows": {"teacher": [[4, 1], [2, 3]], f"{result.winner}{HOSTILE}": [[1, 4], [3, 2]]},
        },
    )


def hostile_flips() -> Flips:
    one = Flip(HOSTILE, HOSTILE, ((HOSTILE, HOSTILE, HOSTILE, "O"),))
    return Flips("validation", 9, 1, 1, (one,), (one,))
