"""``matrix.json``: the summed-up lines of every group and the state of every cell.

Each cell's own ``results.json`` holds what they were summed up from. Docs: docs/matrix.md.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from edgecompress.report.matrix.summary import Group, groups, means
from edgecompress.report.matrix.values import CellResult, MatrixResult
from edgecompress.values import Json

FORMAT = 1


def to_json(matrix: MatrixResult) -> str:
    """Write `matrix` as the text of ``matrix.json``."""
    found = groups(matrix)
    finished = matrix.of("finished")
    count = max(len(finished), 1)
    document = {
        "format": FORMAT,
        "name": matrix.name,
        "axes": {axis: list(values) for axis, values in matrix.axes.items()},
        "constants": dict(matrix.constants),
        "cells": [_cell(cell) for cell in matrix.cells],
        "seconds": {
            "spent": round(sum(cell.seconds for cell in matrix.cells), 1),
            "per_finished_cell": round(sum(cell.seconds for cell in finished) / count, 1),
            "cpu_per_finished_cell": round(sum(cell.cpu_seconds for cell in finished) / count, 1),
            "remaining": matrix.remaining_seconds,
        },
        "groups": [_group(group) for group in found],
        "means": [_group(group) for group in means(matrix, found)],
        "command": matrix.command,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(cell: CellResult) -> Json:
    result = cell.result
    return {
        "name": cell.name,
        "values": dict(cell.values),
        "state": cell.state,
        "seconds": cell.seconds,
        "cpu_seconds": cell.cpu_seconds,
        "reason": cell.reason,
        "winner": result.winner if result else None,
        "verdict": result.verdict.state if result else None,
        "results": f"{cell.name}/results.json" if result else None,
    }


def _group(group: Group) -> Json:
    return {
        "name": group.name,
        "values": dict(group.values),
        "of": group.of,
        "metric": group.primary,
        "split": group.split,
        "lines": [
            {
                key: value
                for key, value in asdict(line).items()
                if key not in ("readings", "failures")
            }
            | {
                "readings": {
                    metric: asdict(spread)
                    for metric, spread in line.readings.items()
                    if math.isfinite(spread.value)
                },
                "failures": list(line.failures),
            }
            for line in group.lines
        ],
    }
