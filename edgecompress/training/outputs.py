"""The teacher's outputs on the training rows, computed once and read from memory-mapped files.

One file per output (``logits`` or ``hidden-<layer>``): a row's tokens follow the one before's,
without padding, float16. The cache's key holds the teacher's weights, its tokenizer and the ids of
all rows, so that other students, other epochs and other recipes with the same data pay nothing.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgecompress.errors import StageError
from edgecompress.stage import Context
from edgecompress.training.rows import Rows, even_batches
from edgecompress.values import Candidate, directory_digests

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """What the teacher gave for every row.

    Attributes
    ----------
    logits : numpy.ndarray
        float16 (tokens, classes), or (rows, classes) where a row has one answer.
    hidden : mapping of int to numpy.ndarray
        float16 (tokens, width) by the teacher's layer, from 0.
    starts : numpy.ndarray
        int64 (rows + 1,): where each row's tokens begin.
    """

    logits: np.ndarray
    hidden: Mapping[int, np.ndarray]
    starts: np.ndarray

    def logits_of(self, rows: np.ndarray) -> torch.Tensor:
        """Give the logits of some rows, one after the other: float32 (tokens or rows, classes)."""
        if len(self.logits) == len(self.starts) - 1:
            return torch.from_numpy(self.logits[rows].astype(np.float32))
        return self._tokens(self.logits, rows)

    def hidden_of(self, layer: int, rows: np.ndarray) -> torch.Tensor:
        """Give the hidden states of some rows, one after the other: float32 (tokens, width)."""
        return self._tokens(self.hidden[layer], rows)

    def _tokens(self, array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        parts = [array[self.starts[row] : self.starts[row + 1]] for row in rows]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def teacher_outputs(
    teacher: Candidate,
    rows: Rows,
    layers: Sequence[int],
    load: Callable[[], Any],
    context: Context,
) -> TeacherOutputs:
    """Give the teacher's logits and hidden states of `layers`, from the cache where it has them.

    Parameters
    ----------
    teacher : Candidate
    rows : Rows
        Encoded by the teacher's own tokenizer.
    layers : sequence of int
        Whose hidden states are wanted, from 0.
    load : callable
        Gives the teacher's module; called only when something is missing.
    context : Context
        Its `cached` keeps the files.
    """
    names = ["logits", *(f"hidden-{layer}" for layer in sorted(set(layers)))]
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
        "teacher": directory_digests(teacher.model.directory),
        "tokenizer": rows.preprocessor.digest,
        "rows": _rows_digest(rows),
    }
    starts = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64)
    found = {}
    for name in names:
        folder = context.cached({**common, "output": name}, lambda into, n=name: build(n, into))  # type: ignore[misc]
        flat = np.memmap(folder / f"{name}.f16", dtype=np.float16, mode="r")
        per_row = name == "logits" and rows.encoded.labels[0].ndim == 0
        count = len(rows.encoded) if per_row else int(starts[-1])
        found[name] = flat.reshape(count, -1)
    shutil.rmtree(aside, ignore_errors=True)
    hidden = {layer: found[f"hidden-{layer}"] for layer in set(layers)}
    return TeacherOutputs(found["logits"], hidden, starts)


def _run(module: Any, rows: Rows, names: Sequence[str], folder: Path, context: Context) -> None:
    """Write the named outputs of all rows; one forward pass of the teacher in float32."""
    starts = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64)
    files: dict[str, np.memmap[Any, Any]] = {}
    done = 0
    for batch in even_batches(rows.lengths):
        with torch.inference_mode():
            output = module(**rows.feed(batch), output_hidden_states=len(names) > 1)
        for name in names:
            # hidden_states[0] is the embedding; layer i's output is entry i + 1.
            value = (
                output.logits
                if name == "logits"
                else output.hidden_states[int(name.removeprefix("hidden-")) + 1]
            )
            array = value.float().clamp(-LARGEST, LARGEST).numpy().astype(np.float16)
            per_row = array.ndim == 2
            if name not in files:
                shape = (len(rows.encoded) if per_row else int(starts[-1]), array.shape[-1])
                files[name] = _mapped(folder / f"{name}.f16", shape)
            for row, part in zip(batch.tolist(), array, strict=True):
                if per_row:
                    files[name][row] = part
                else:
                    length = int(starts[row + 1] - starts[row])
                    files[name][starts[row] : starts[row + 1]] = part[:length]
        done += len(batch)
        context.progress(done, len(rows.encoded), "teacher's outputs")
    for file in files.values():
        file.flush()


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map a new float16 file, its space reserved: a full disk must be an error, not a SIGBUS."""
    try:
        with path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 2 * math.prod(shape))
    except OSError as error:
        raise StageError(f"the teacher's outputs cannot be written to {path}: {error}") from None
    return np.memmap(path, np.float16, "r+", shape=shape)


def _rows_digest(rows: Rows) -> str:
    digest = hashlib.sha256()
    digest.update(rows.lengths.tobytes())
    for ids in rows.encoded.input_ids:
        digest.update(np.ascontiguousarray(ids, dtype=np.int64).tobytes())
    return digest.hexdigest()
