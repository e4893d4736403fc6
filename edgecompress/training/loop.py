"""The one training loop: finetune, distil and every later stage that trains uses it.

It knows nothing of tasks or models. It is given named tensors (those that require a gradient are
trained), the length of every row, a function that gives the loss of some rows, and one that scores
the state on validation data. It keeps the weights of the best epoch.

After each epoch the whole state is written to a folder, aside and then renamed, so that a killed
process goes on from its last finished epoch. What happens in an epoch depends on nothing but that
state, the seed and the epoch's number: a resumed run ends in the same weights as an unbroken one.

Several processes (`training.together`) divide each batch's rows and sum their gradients, so that
all hold the same state; only the main one scores it and writes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from edgecompress.training.checkpoint import State, latest, save
from edgecompress.training.schedule import Schedule, batches, learning_rate
from edgecompress.training.together import ALONE, AgreedError, Team
from edgecompress.values import Json, json_digest

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training found: mean loss and validation score per epoch, and the best epoch, from 1.

    `further` is what the training was held to (zeros that stayed, parts that were pruned), as JSON.
    """

    losses: tuple[float, ...]
    scores: tuple[float | None, ...]
    best: int
    further: Json = field(default_factory=dict)

    def as_json(self) -> Json:
        """Give it as a step's decisions."""
        return {
            "losses": [round(loss, 6) for loss in self.losses],
            "scores": [None if s is None else round(s, 6) for s in self.scores],
            "best_epoch": self.best,
            **self.further,
        }

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The activation ranges that quantization-aware training has learned, by module path."""
        found = self.further.get("qat", {}).get("ranges", {})
        return {path: (low, high) for path, (low, high) in found.items()}


class StepConstraint(Protocol):
    """What holds a training to something from step to step: masks of pruned weights, a schedule.

    Attributes
    ----------
    tensors : mapping of str to torch.Tensor
        Its own state; saved with each epoch, read on resuming, and at the end that of the best one.
    """

    tensors: Mapping[str, torch.Tensor]

    def after_step(self, done: int, total: int) -> None:
        """Change weights or state after step `done` (from 1) of `total`; gradients are there."""

    def settled(self, done: int, total: int) -> bool:
        """Whether the state after step `done` is of the kind that is wanted at the end."""


class Draws(Protocol):
    """What draws the rows of each epoch, as many batches of them as `batches` gives.

    Attributes
    ----------
    state : torch.Tensor
        Its own state; saved with each epoch, read on resuming, and at the end that of the best one.
    """

    state: torch.Tensor

    def batches(
        self, lengths: np.ndarray, schedule: Schedule, seed: int, epoch: int
    ) -> Iterator[np.ndarray]:
        """Give the row numbers of each batch of an epoch, from 0."""


def train(
    tensors: Mapping[str, torch.Tensor],
    lengths: np.ndarray,
    loss: Callable[[np.ndarray], torch.Tensor],
    score: Callable[[], float | None],
    schedule: Schedule,
    seed: int,
    scratch: Path,
    progress: Progress,
    constraint: StepConstraint | None = None,
    team: Team = ALONE,
    begin: Callable[[int], None] | None = None,
    draws: Draws | None = None,
) -> Outcome:
    """Train `tensors` in place; at the end they hold the best epoch's values.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        All state that changes; leaves that require a gradient are trained.
    lengths : numpy.ndarray
        int64, shape (rows,): tokens of each row.
    loss : callable
        From row numbers, int64 (batch,), to a scalar to minimise.
    score : callable
        Validation score of the present state, higher is better; None where there is no such data.
    schedule : Schedule
    seed : int
        Decides the order of the rows.
    scratch : Path
        Where the state of the last finished epoch is kept.
    progress : callable
        Told (batches done, all batches, ``epoch i of n``).
    constraint : StepConstraint, optional
        Asked after every step; an epoch at whose end it is not settled cannot be the best one.
    team : Team
        With whom; all processes call this with the same tensors and rows.
    begin : callable, optional
        Told the number of each epoch, from 0, before it begins.
    draws : Draws, optional
        What draws the rows of an epoch; without it each comes once.

    Returns
    -------
    Outcome

    Raises
    ------
    StageError
        When the loss or the gradient stops being a number; the last good epoch stays in `scratch`.
    """
    if constraint is not None:
        tensors = {**tensors, **{f"constraint.{name}": t for name, t in constraint.tensors.items()}}
    if draws is not None:
        tensors = {**tensors, "draws": draws.state}
    trained = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    optimizer = _optimizer(trained, schedule)
    plan = [sum(1 for _ in batches(lengths, schedule, seed, e)) for e in range(schedule.epochs)]
    total_steps = sum(plan)
    state = State(_fingerprint(tensors, lengths, schedule, seed))
    # The others read where the main process writes; it does not before all have been here.
    place = Path(team.meet("the start", str(scratch))[0])
    state = latest(place, state.key, tensors, optimizer) or state
    _same_start(team, len(state.losses), tensors)
    best = state.best_tensors
    for epoch in range(len(state.losses), schedule.epochs):
        if _out_of_patience(state, schedule):
            break
        if begin is not None:
            begin(epoch)
        total, seen = 0.0, 0
        drawn = (
            batches(lengths, schedule, seed, epoch)
            if draws is None
            else draws.batches(lengths, schedule, seed, epoch)
        )
        for step, rows in enumerate(drawn):
            done = sum(plan[:epoch]) + step
            value = _step(loss, rows, optimizer, trained, schedule, done, total_steps, team)
            if isinstance(value, str):
                where = f"epoch {epoch + 1}, batch {step + 1} of {plan[epoch]}"
                longest = int(lengths[rows].max())
                batch = f"{len(rows)} rows of {int(lengths[rows].min())} to {longest} tokens"
                raise AgreedError(_diverged(value, where, batch, done, total_steps, schedule, state,
                                            place))  # fmt: skip
            if constraint is not None:
                constraint.after_step(done + 1, total_steps)
            total, seen = total + value * len(rows), seen + len(rows)
            what = f"epoch {epoch + 1} of {schedule.epochs}"
            progress(done + 1, total_steps, what)
        reached = None
        if team.main:
            team.stepping = False
            with torch.no_grad():
                reached = score()
        reached = team.meet(f"the end of epoch {epoch + 1}", reached)[0]
        if draws is not None:  # the main process scores, and may have changed what is drawn next
            draws.state.copy_(team.meet("what is drawn next", draws.state)[0])
        if constraint is not None and not constraint.settled(sum(plan[: epoch + 1]), total_steps):
            reached = None
        state = state.after(total / seen, reached)
        if state.best == epoch + 1:
            best = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        if team.main:
            save(scratch, state, tensors, best, optimizer)
        team.meet(f"what epoch {epoch + 1} leaves")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(best[name])
    return Outcome(state.losses, state.scores, state.best)


def _optimizer(trained: Mapping[str, torch.Tensor], schedule: Schedule) -> torch.optim.AdamW:
    # Decay pulls a rare piece's embedding, a bias or a norm towards 0 without any evidence.
    decays = {n for n, t in trained.items() if t.ndim > 1 and "embeddings" not in n}
    groups: list[dict[str, Any]] = [
        {"params": [t for n, t in trained.items() if n in decays]},
        {"params": [t for n, t in trained.items() if n not in decays], "weight_decay": 0.0},
    ]
    # One pass over memory a step: AdamW is bound by memory on a CPU.
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def _step(
    loss: Callable[[np.ndarray], torch.Tensor],
    rows: np.ndarray,
    optimizer: torch.optim.AdamW,
    trained: Mapping[str, torch.Tensor],
    schedule: Schedule,
    done: int,
    total_steps: int,
    team: Team,
) -> float | str:
    """Take one step; give the batch's loss, or what is not a number (and no step is taken)."""
    optimizer.zero_grad(set_to_none=True)
    mine, weight = team.share(rows)
    value = loss(mine)
    if team.count == 1 and not math.isfinite(float(value.detach())):
        return "loss"
    value.backward()
    parameters = list(trained.values())
    number = float(team.sum_gradients(parameters, weight, value))
    if not math.isfinite(number):
        return "loss"
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    size = float(norm)
    if not math.isfinite(size):
        return "gradient"
    if size > schedule.max_gradient_norm:  # a smaller one would be multiplied by 1
        torch.nn.utils.clip_grads_with_norm_(parameters, schedule.max_gradient_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, done, total_steps)
    optimizer.step()
    return number


def _same_start(team: Team, epochs: int, tensors: Mapping[str, torch.Tensor]) -> None:
    """See that all processes start from the same state."""
    if team.count == 1:
        return
    sums = [float(tensor.detach().double().sum()) for tensor in tensors.values()]
    found = team.meet("the state to go on from", (epochs, json_digest({"sums": sums})))
    if len(set(found)) > 1:
        raise AgreedError(
            "the processes read different states of this training; put the store on a file system "
            "that all machines share"
        )


def _out_of_patience(state: State, schedule: Schedule) -> bool:
    if schedule.patience is None or not state.losses:
        return False
    return len(state.losses) - state.best >= schedule.patience


def _diverged(
    what: str,
    where: str,
    batch: str,
    done: int,
    total_steps: int,
    schedule: Schedule,
    state: State,
    place: Path,
) -> str:
    kept = (
        f"the state after epoch {len(state.losses)} is kept in {place}"
        if state.losses
        else "no epoch was finished"
    )
    now = learning_rate(schedule, done, total_steps)
    return (
        f"training diverged: the {what} is not a number in {where} ({batch}, learning rate "
        f"{now:.2g}); lower learning_rate ({schedule.learning_rate:g}) or lengthen warmup "
        f"({schedule.warmup:g}); {kept}"
    )


def _fingerprint(
    tensors: Mapping[str, torch.Tensor], lengths: np.ndarray, schedule: Schedule, seed: int
) -> str:
    return json_digest(
        {
            "tensors": {n: [list(t.shape), bool(t.requires_grad)] for n, t in tensors.items()},
            "lengths": lengths.tolist(),
            "schedule": repr(schedule),
            "seed": seed,
        }
    )
