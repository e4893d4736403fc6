"""The state of a training after an epoch, on disk.

A folder ``epoch-0003`` holds ``state.json``, ``last.safetensors``, ``best.safetensors`` (a hard
link where both are the same) and ``optimizer.pt``. It is written under another name and renamed, so
it is whole or absent; the one before is removed after that.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgecompress.disk import asking
from edgecompress.errors import StageError


@dataclass(frozen=True, slots=True)
class State:
    """How far a training is.

    Attributes
    ----------
    key : str
        Digest of everything that the training depends on beside its weights.
    losses, scores : tuple
        One entry per finished epoch.
    best_tensors : dict
        The best epoch's values by name; filled when read from disk.
    """

    key: str
    losses: tuple[float, ...] = ()
    scores: tuple[float | None, ...] = ()
    best_tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The best epoch, from 1: the first of the highest score; without scores the last."""
        known = [score for score in self.scores if score is not None]
        if not known:
            return len(self.losses)
        return self.scores.index(max(known)) + 1

    def after(self, loss: float, score: float | None) -> State:
        """Give the state with one more epoch."""
        return replace(self, losses=(*self.losses, loss), scores=(*self.scores, score))


def save(
    scratch: Path,
    state: State,
    tensors: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state after an epoch and forget the one before.

    Raises
    ------
    DiskError
        When its disk is full or read-only; the state of the epoch before stays.
    StageError
        When `scratch` cannot be written for another reason.
    """
    epoch = len(state.losses)
    aside, final = scratch / f".epoch-{epoch:04d}", scratch / f"epoch-{epoch:04d}"
    try:
        with asking(scratch, "--store or EDGECOMPRESS_STORE"):
            _write(aside, state, tensors, best, optimizer)
            shutil.rmtree(final, ignore_errors=True)
            aside.rename(final)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StageError(f"the training state cannot be written to {scratch}: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # of one that failed: the room may be needed
    for old in scratch.glob("epoch-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def _write(
    folder: Path,
    state: State,
    tensors: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, folder / "last.safetensors")
    if state.best == len(state.losses):
        os.link(folder / "last.safetensors", folder / "best.safetensors")
    else:
        save_file(dict(best), folder / "best.safetensors")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    document = {"key": state.key, "losses": state.losses, "scores": state.scores}
    (folder / "state.json").write_text(json.dumps(document), encoding="utf-8")


def latest(
    scratch: Path,
    key: str,
    tensors: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> State | None:
    """Read the last finished epoch into `tensors` and `optimizer`, if it is of this training.

    A damaged folder, or one of another training, counts as none.
    """
    for folder in sorted(scratch.glob("epoch-*"), reverse=True):
        try:
            document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            if document["key"] != key:
                continue
            last = load_file(folder / "last.safetensors")
            best = load_file(folder / "best.safetensors")
            memory = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
            if set(last) != set(tensors) or set(best) != set(tensors):
                continue
            optimizer.load_state_dict(memory)
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            RuntimeError,
            SafetensorError,
            pickle.UnpicklingError,
        ):
            continue
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(last[name])
        return State(key, tuple(document["losses"]), tuple(document["scores"]), best)
    return None
