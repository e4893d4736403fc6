"""The whole way of an example on this machine: rows made, the model run, the answer read.

``python -m edgecompress.targets.whole_way FOLDER`` does a timing job whose examples lie in the
folder: what its task and processor do before and behind each inference is timed, too. It runs in a
fresh process, as the agent does, which cannot do this: it knows numpy and onnxruntime only.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.targets.agent.modes import run_job
from edgecompress.targets.agent.sessions import import_onnxruntime, open_onnx
from edgecompress.targets.base import Job
from edgecompress.tasks import Rows, load_processor, task
from edgecompress.values import Example

EXAMPLES = "examples.pickle"
"""Written by `keep_examples` and read by the process that it starts; it travels nowhere."""


class WholeWay:
    """What the task of a job's entry does around the inferences of an example."""

    covers = "rows, model, answer"

    def __init__(self, entry: Mapping[str, Any], examples: Sequence[Example]) -> None:
        way = entry["way"]
        folder = way["preprocessor"]
        self._task = task(way["task"])
        self._processor = load_processor(way["task"], None if folder is None else Path(folder))
        self._classes, self._inputs = tuple(way["classes"]), tuple(way["inputs"])
        self._examples = examples
        self._rows: Rows

    def before(self, item: int, /) -> list[dict[str, Any]]:
        """Make the rows of an example, and the inputs of each."""
        rows = self._rows = self._task.rows([self._examples[item]], self._processor, self._classes)
        return [rows.batch([number], self._inputs) for number in range(len(rows))]

    def behind(self, outputs: list[Sequence[np.ndarray]], /) -> object:
        """Read the answer to it."""
        kept = [
            self._task.compact(np.asarray(one[0][0], np.float32), row)
            for one, row in zip(outputs, self._rows, strict=True)
        ]
        return self._task.decode(kept, self._rows)


def keep_examples(job: Job, folder: Path) -> None:
    """Write the examples of `job` for the process that works in `folder`."""
    (folder / EXAMPLES).write_bytes(pickle.dumps(job.examples))


def whole_way(
    entry: Mapping[str, Any],
    job: Mapping[str, Any],  # noqa: ARG001 - as the agent asks
    folder: Path,
) -> WholeWay | None:
    """Give what stands around the inferences of an entry, where it has a task."""
    if not entry["way"]:
        return None
    return WholeWay(entry, _examples(folder))


@functools.cache
def _examples(folder: Path) -> Sequence[Example]:
    """Read them once for all entries."""
    found: Sequence[Example] = pickle.loads((folder / EXAMPLES).read_bytes())  # noqa: S301 - ours
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgecompress.targets.whole_way FOLDER")
    run_job(Path(sys.argv[1]), open_onnx, import_onnxruntime, whole_way)
