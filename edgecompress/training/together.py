"""Several processes that train one model: under ``accelerate launch`` or ``torchrun``.

The main process (rank 0) does everything that it does alone. When it comes to a stage that is
`distributed`, it tells the others, which apply the same stage in throw-away folders: they load the
same model, take their share of each batch's rows, and gradients are summed, so that all of them
hold the same weights after every step. All else of a run (export, measuring, the report, the store)
is the main process's alone; the others wait meanwhile without using the processor.

Whenever all must agree they *meet*: each says where it is, what it found, or what failed there.
What fails in one of them before or between epochs thus ends the stage in all with the same message.
What fails in the middle of a step ends all processes: the others cannot go on without it.

torch is imported inside functions: the pipeline imports this, and works without torch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from edgecompress.context import Context
from edgecompress.determinism import steady
from edgecompress.errors import EdgeCompressError, StageError
from edgecompress.launched import process_count
from edgecompress.store import Store
from edgecompress.values import Candidate, Json, json_digest
from edgecompress.writing import temporary

LONG = timedelta(days=30)
"""How long the others wait for the main process, which may measure or quantize for hours."""


SHARED = ("seed", "train", "validation", "teacher")
"""Fields of a stage's context that the other processes are sent; they measure and report nothing,
and their folders are thrown away."""


class AgreedError(StageError):
    """A stage failed and all processes know it: nobody waits for another."""


@dataclass(frozen=True, slots=True)
class StageTask:
    """What the main process tells the others of a stage.

    Attributes
    ----------
    stage : Transform
    candidate : Candidate
    given : dict
        The fields of its `Context` that are the same in all processes.
    store : Path
        Of the main process.
    threads : int or None
        How many torch computes with.
    """

    stage: Any
    candidate: Candidate
    given: Json
    store: Path
    threads: int | None


@dataclass
class Team:
    """The processes that train together; alone, everything here does nothing.

    Attributes
    ----------
    rank, count : int
        Which process this is, the main one being 0, and how many there are.
    accelerator : accelerate.Accelerator or None
        What joins them.
    control : torch.distributed.ProcessGroup or None
        For messages; gradients go another way where there are GPUs.
    stepping : bool
        Whether this process is in the middle of steps, where an error leaves the others waiting.
    """

    rank: int = 0
    count: int = 1
    accelerator: Any = None
    control: Any = None
    stepping: bool = False

    @property
    def main(self) -> bool:
        """Whether this is the process that does everything else, too."""
        return self.rank == 0

    @property
    def device(self) -> Any:
        """The torch device of this process."""
        return self.accelerator.device

    def meet(self, where: str, said: Any = None, error: BaseException | None = None) -> list[Any]:
        """Wait for all processes, and give what each of them said, by rank.

        Raises
        ------
        AgreedError
            In all of them, when one came with an error or is elsewhere.
        """
        if self.count == 1:
            return [said]
        import torch

        self.stepping = False
        failure = None if error is None else str(error) or type(error).__name__
        told: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(told, (where, said, failure), group=self.control)
        for _, _, text in told:
            if text is not None:
                raise AgreedError(text)
        places = {place for place, _, _ in told}
        if len(places) > 1:
            raise AgreedError(
                f"the processes went different ways ({', '.join(sorted(places))}); they must run "
                "the same version and read the same files: put the store and the data on a file "
                "system that all machines share"
            )
        return [found for _, found, _ in told]

    def share(self, rows: Any) -> tuple[Any, float]:
        """Give this process's part of a batch's rows, and its weight in the gradients' sum.

        There is always a row, so that all processes take the same way; it may count nothing.
        """
        if self.count == 1:
            return rows, 1.0
        mine = rows[self.rank :: self.count]
        return (mine, len(mine) / len(rows)) if len(mine) else (rows[:1], 0.0)

    def sum_gradients(self, trained: Sequence[Any], weight: float, loss: Any) -> Any:
        """Replace all gradients by their weighted sum over the processes; give that of the loss.

        One message carries them all. A parameter without a gradient anywhere keeps none.

        Parameters
        ----------
        trained : sequence of torch.Tensor
        weight : float
            Of this process's part.
        loss : torch.Tensor
            Scalar, of this process's part.
        """
        if self.count == 1:
            return loss.detach()
        import torch

        self.stepping = True
        with torch.no_grad():
            has = torch.tensor([float(p.grad is not None) for p in trained], device=loss.device)
            parts = [
                (p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained
            ]
            flat = torch.cat([*parts, loss.detach().float().reshape(1)]).mul_(weight)
            flat = self.accelerator.reduce(torch.cat([flat, has]), "sum")
            at = 0
            for parameter, count in zip(trained, flat[-len(trained) :].tolist(), strict=True):
                size = parameter.numel()
                if count:
                    parameter.grad = flat[at : at + size].view_as(parameter)
                at += size
            return flat[at]

    def tell(self, task: StageTask | None) -> None:
        """Send all others a task, or None when there will be no more (main process)."""
        import torch

        torch.distributed.broadcast_object_list([task], src=0, group=self.control)

    def hear(self) -> StageTask | None:
        """Wait for the next task (the other processes)."""
        import torch

        box: list[Any] = [None]
        torch.distributed.broadcast_object_list(box, src=0, group=self.control)
        found: StageTask | None = box[0]
        return found


ALONE = Team()
_joined: list[Team] = []
"""The team of the stage that is being applied, while one is."""


@functools.cache
def team() -> Team:
    """Join the processes that were launched together; all must call it, each once."""
    import torch
    import torch.distributed.nn  # imported later, its functions' defaults would hold the group
    from accelerate import (  # type: ignore[import-untyped]
        Accelerator,
        InitProcessGroupKwargs,
    )

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # see devices.training_device
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONG)],
    )
    control = torch.distributed.new_group(backend="gloo", timeout=LONG)
    return Team(accelerator.process_index, accelerator.num_processes, accelerator, control)


def current_team() -> Team:
    """Give the team that applies the present stage; a process alone where it is not distributed."""
    return _joined[-1] if _joined else ALONE


@contextmanager
def together(
    stage: Any, candidate: Candidate, context: Context, store: Store, threads: int | None
) -> Iterator[None]:
    """While inside, the other processes apply `stage`, too (main process).

    Nothing happens where there are none, or where the stage is not `distributed`.

    Raises
    ------
    StageError
        What failed in any of them.
    EdgeCompressError
        When one failed in the middle of a step.
    """
    if process_count() == 1 or not stage.distributed:
        yield
        return
    found = team()
    given = {name: getattr(context, name) for name in SHARED}
    found.tell(StageTask(stage, candidate, given, store.root, threads))
    with _applying(found):
        yield


@contextmanager
def _applying(found: Team) -> Iterator[None]:
    _joined.append(found)
    try:
        yield
        found.meet("the end")
    except AgreedError:
        found.stepping = False
        raise
    except Exception as error:
        if found.stepping:
            cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EdgeCompressError(
                f"process {found.rank + 1} of {found.count} failed in a training step ({cause}); "
                "what was finished is kept, and the same command goes on from there"
            ) from error
        try:
            found.meet("the end", error=error)
        except AgreedError:
            raise error from None
    finally:
        _joined.pop()


def cached(store: Store, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Give the folder that `build` fills, made once per `key`, by the main process."""
    found = current_team()
    folder = store.cached(key, build) if found.main else None
    found.meet(f"what is kept under {json_digest(dict(key))[:12]}")
    if folder is None:
        folder = store.get(json_digest({"cached": dict(key)}))
    if folder is None:
        raise StageError(
            f"the store {store.root} of the main process cannot be read here; put it on a file "
            "system that all machines share"
        )
    return folder


def help_the_main_process() -> None:
    """Take part in every distributed stage that the main process tells of, until it is done."""
    found = team()
    while (task := found.hear()) is not None:
        try:
            _take_part(found, task)
        except Exception:  # a stage may run any library; all have met over it, the main one reports
            if found.stepping:
                raise
    _leave(found)


def _take_part(found: Team, task: StageTask) -> None:
    with temporary() as place, _applying(found):
        folders = place / "folder", place / "scratch"
        for folder in folders:
            folder.mkdir()
        context = Context(*folders, functools.partial(cached, Store(task.store)), **task.given)
        with steady(type(task.stage).__module__, task.threads):
            task.stage.apply(task.candidate, context)


def dismiss_the_others() -> None:
    """Let the other processes end (main process, when its command is done)."""
    found = team()
    if not found.stepping:  # else one is gone already, and the launcher ends the rest
        found.tell(None)
        _leave(found)


def _leave(found: Team) -> None:
    """Close both process groups and wait for their threads.

    A group that is still there when Python ends has threads that may ask for Python's lock then;
    such a thread takes the whole process down («terminate called without an active exception»).
    """
    found.accelerator.end_training()
    found.control = None
    team.cache_clear()
