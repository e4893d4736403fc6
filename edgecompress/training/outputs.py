"""The teacher's outputs on the training rows, computed once and read from memory-mapped files.

One file per output: ``logits``, ``embeddings`` (what goes into the first layer),
``hidden-<layer>``, ``query-<layer>``, ``key-<layer>`` and ``value-<layer>``. A row's tokens follow
the one before's, without padding, float16. The cache's key holds the teacher's weights, its
tokenizer and the ids of all rows, so that other students, other epochs and other recipes with the
same data pay nothing. Rows without labels are kept apart from those before them: another transfer
set costs nothing for the training examples.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.onnx_files import model_digests
from edgecompress.training.align import Ids, runs
from edgecompress.training.devices import autocast, faster_dtype, moved, training_device
from edgecompress.training.mapped import MappedHalves
from edgecompress.training.relations import ROLES, captured
from edgecompress.training.rows import TorchRows
from edgecompress.values import Candidate

LARGEST = float(np.finfo(np.float16).max)


class Joined:
    """Arrays that lie in several files, read as one.

    Parameters
    ----------
    parts : sequence of MappedHalves
        (tokens, width) each, at least one.
    """

    def __init__(self, parts: Sequence[MappedHalves]) -> None:
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in parts])
        self.width = int(parts[0].values.shape[1])

    def __getitem__(self, index: Ids) -> np.ndarray:
        """Read tokens by their numbers, int64 (chosen,): (chosen, width)."""
        if len(self.parts) == 1:
            return self.parts[0][index]
        found = np.empty((len(index), self.width), np.float16)
        owner = np.searchsorted(self.ends, index, side="right")
        for number, part in enumerate(self.parts):
            mine = owner == number
            found[mine] = part[index[mine] - (self.ends[number] - len(part))]
        return found


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """What the teacher gave for every row.

    Attributes
    ----------
    arrays : mapping of str to Joined
        float16 (tokens, width) by output; ``logits`` (rows, classes) where a row has one answer,
        (rows, candidates × width) where it has one for each candidate.
    starts : numpy.ndarray
        int64 (rows + 1,): where each row's tokens begin.
    """

    arrays: Mapping[str, Joined]
    starts: np.ndarray

    def of(self, name: str, starts: Ids, counts: Ids) -> torch.Tensor:
        """Give an output's means over runs of tokens (or rows).

        Parameters
        ----------
        name : str
        starts, counts : numpy.ndarray
            int64 (runs,): none is empty.

        Returns
        -------
        torch.Tensor
            float32 (runs, width).
        """
        array = self.arrays[name]
        if (counts == 1).all():
            return torch.from_numpy(array[starts]).float()
        parts = array[runs(starts, counts)].astype(np.float32)
        sums = np.add.reduceat(parts, np.cumsum(counts) - counts, axis=0)
        return torch.from_numpy(sums / counts[:, None].astype(np.float32))

    def width(self, name: str) -> int:
        """Give the width of an output."""
        return self.arrays[name].width


def output_names(
    hidden: Iterable[int] = (),
    embeddings: bool = False,
    relations: Iterable[int] = (),
    answers: Sequence[str] = ("logits",),
) -> tuple[str, ...]:
    """Name the outputs that losses need, the `answers` of the task always among them."""
    return (
        *answers,
        *(["embeddings"] if embeddings else []),
        *(f"hidden-{layer}" for layer in sorted(set(hidden))),
        *(f"{role}-{layer}" for layer in sorted(set(relations)) for role in ROLES),
    )


def teacher_outputs(
    teacher: Candidate,
    rows: TorchRows,
    names: Sequence[str],
    load: Callable[[], Any],
    context: Context,
) -> TeacherOutputs:
    """Give the teacher's outputs, from the cache where it has them.

    Parameters
    ----------
    teacher : Candidate
    rows : TorchRows
        Encoded by the teacher's own tokenizer.
    names : sequence of str
        See `output_names`.
    load : callable
        Gives the teacher's module; called only when something is missing.
    context : Context
        Its `cached` keeps the files.
    """
    starts = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64)
    files = [_files(teacher, part, names, load, context) for part in _parts(rows)]
    arrays = {name: Joined([part[name] for part in files]) for name in names}
    return TeacherOutputs(arrays, starts)


def _parts(rows: TorchRows) -> list[TorchRows]:
    """Divide rows into those of the training examples and those of the transfer set behind them."""
    labelled = rows.labelled()
    count = len(labelled)
    if 0 < count < len(rows) and labelled[-1] == count - 1:
        return [rows.subset(labelled), rows.subset(np.arange(count, len(rows)))]
    return [rows]


def _files(
    teacher: Candidate,
    rows: TorchRows,
    names: Sequence[str],
    load: Callable[[], Any],
    context: Context,
) -> dict[str, MappedHalves]:
    aside = context.scratch / "teacher"
    made: list[str] = []

    def build(name: str, folder: Path) -> None:
        # One pass makes all outputs, whichever is asked for first.
        if not made:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            _run(load(), rows, names, aside, context)
            made.extend(names)
        shutil.move(aside / f"{name}.f16", folder / f"{name}.f16")

    common = {
        "kind": "teacher output, float16",
        "computed in": str(faster_dtype(training_device().type)),
        "teacher": model_digests(teacher.model),
        "tokenizer": rows.processor.digest,
        "rows": rows.digest(),
    }
    answers = {one.name for one in rows.task.outputs}
    found: dict[str, MappedHalves] = {}
    for name in names:
        folder = context.cached({**common, "output": name}, lambda into, n=name: build(n, into))  # type: ignore[misc]
        per_row = name in answers and not rows.stepwise
        count = len(rows) if per_row else int(rows.lengths.sum())
        found[name] = MappedHalves(folder / f"{name}.f16", count)
    shutil.rmtree(aside, ignore_errors=True)
    return found


def _run(
    module: Any, rows: TorchRows, names: Sequence[str], folder: Path, context: Context
) -> None:
    """Write the named outputs of all rows; one forward pass, in training's precision."""
    starts = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64)
    files: dict[str, np.memmap[Any, Any]] = {}
    done = 0
    inner = {int(name.split("-")[1]) for name in names if name.startswith("query-")}
    answers = {one.name for one in rows.task.outputs}
    states = {"output_hidden_states": True} if set(names) - answers else {}
    device = torch.device("cpu")
    if isinstance(module, torch.nn.Module):  # an ONNX teacher is none
        device = training_device()
        module.to(device)
    watch: Any = captured(module, inner) if inner else nullcontext({})
    with watch as caught:
        for batch in rows.batches:
            feed = {name: moved(tensor, device) for name, tensor in rows.feed(batch).items()}
            with torch.inference_mode(), autocast(device.type):
                output = module(**feed, **states)
            for name in names:
                own = name in answers
                array = _half(output[name] if own else _value(name, output, caught))
                per_row = own and not rows.stepwise
                if per_row:  # all candidates of a row lie in one line of the file
                    array = array.reshape(len(array), -1)
                if name not in files:
                    shape = (len(rows) if per_row else int(starts[-1]), array.shape[-1])
                    files[name] = _mapped(folder / f"{name}.f16", shape)
                for row, part in zip(batch.tolist(), array, strict=True):
                    if per_row:
                        files[name][row] = part
                    else:
                        length = int(starts[row + 1] - starts[row])
                        files[name][starts[row] : starts[row + 1]] = part[:length]
            done += len(batch)
            context.progress(done, len(rows), "teacher's outputs")
    for file in files.values():
        file.flush()


def _value(name: str, output: Any, caught: Mapping[str, torch.Tensor]) -> torch.Tensor:
    # hidden_states[0] is what goes into the first layer; layer i's output is entry i + 1.
    if name == "embeddings":
        return output.hidden_states[0]
    if name.startswith("hidden-"):
        return output.hidden_states[int(name.removeprefix("hidden-")) + 1]
    return caught[name]


def _half(value: torch.Tensor) -> np.ndarray:
    array: np.ndarray = value.float().clamp(-LARGEST, LARGEST).cpu().numpy().astype(np.float16)
    return array


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map a new float16 file, its space reserved: a full disk must be an error, not a SIGBUS."""
    try:
        with path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 2 * math.prod(shape))
    except OSError as error:
        raise StageError(f"the teacher's outputs cannot be written to {path}: {error}") from None
    return np.memmap(path, np.float16, "r+", shape=shape)
