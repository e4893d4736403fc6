"""Train a module on rows with a given loss: what the stages that train have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.context import Context
from edgecompress.training.balance import Draws
from edgecompress.training.batch_norms import batch_norms, by_batch
from edgecompress.training.devices import autocast, memory_at_hand, moved, training_device
from edgecompress.training.embedding import only_used_rows
from edgecompress.training.fake_quant_training import fake_quantized
from edgecompress.training.gradual import held
from edgecompress.training.loop import Outcome, StepConstraint, train
from edgecompress.training.lora import adapted
from edgecompress.training.rows import TorchRows
from edgecompress.training.schedule import Schedule
from edgecompress.training.together import current_team

Loss = Callable[[Any, np.ndarray], torch.Tensor]
"""From a module's output and the row numbers to a scalar."""


def fit(
    module: Any,
    rows: TorchRows,
    validation: TorchRows | None,
    loss: Loss,
    schedule: Schedule,
    context: Context,
    *,
    hidden_states: bool = False,
    freeze_embeddings: bool = False,
    projections: nn.Module | None = None,
    constraint: StepConstraint | None = None,
    draws: Draws | None = None,
) -> Outcome:
    """Train `module` in place and leave it with the weights of the best epoch.

    Zeros of matrices that were pruned stay zero, and what `schedule.gradual` prunes is gone at the
    end (`training.gradual`). With `schedule.lora` products beside the matrices are trained, and
    merged into them at the end (`training.lora`). With `schedule.qat` it is trained and scored as
    it will be quantized (`training.fake_quant_training`).

    The module stays in evaluation mode: drawing dropout's random numbers takes a large part of a
    step on a CPU, and small models on small data gain more from early stopping. Its batch
    normalizations alone may take what they need from each batch (`schedule.batch_norms`); those of
    the main process count. It computes on the
    accelerator where there is one, together with the other processes where the stage was started in
    several, and is on the CPU again afterwards.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    rows, validation : TorchRows
        Without validation rows the last epoch's weights are kept.
    loss : callable
        See `Loss`.
    schedule : Schedule
    context : Context
        Its seed, scratch folder and progress are used.
    hidden_states : bool
        Whether the loss reads ``output.hidden_states``.
    freeze_embeddings : bool
        Leave all embeddings as they are.
    projections : torch.nn.Module, optional
        What else to train, such as projections; not part of the model.
    constraint : StepConstraint, optional
        What holds the weights to something from step to step.
    draws : Draws, optional
        How often the rows of each data file are drawn.

    Raises
    ------
    StageError
        When training diverges.
    """
    device = training_device()
    trained = schedule.batch_norms == "trained"
    norms = [one for one in batch_norms(module) if one.momentum is not None] if trained else []

    def value(numbers: np.ndarray) -> torch.Tensor:
        feed = {name: moved(tensor, device) for name, tensor in rows.feed(numbers).items()}
        states = {"output_hidden_states": True} if hidden_states else {}
        told: Mapping[str, Any] = {}
        if rows.task.tells:
            right = {name: moved(one, device) for name, one in rows.taught(numbers).items()}
            told = rows.task.told(right)
        some = norms if len(numbers) > 1 else []  # of one row there may be one number
        with autocast(device.type), by_batch(some):
            output = module(**feed, **states, **told)
            return loss(output, numbers)

    def score() -> float | None:
        if validation is None:
            return None
        answers = validation.answers(module)
        if draws is not None and draws.balance.compares:
            draws.validated(validation.scores_by_file(answers))
        return validation.score(answers)

    # With products beside the matrices the embeddings are frozen already.
    trained_rows = (None, False) if schedule.lora else (rows.used_ids, freeze_embeddings)
    module.eval()
    module.to(device)
    if projections is not None:
        projections.to(device)
    with (
        memory_at_hand(),
        adapted(module, schedule.lora, context.seed),
        only_used_rows(module, *trained_rows),
        fake_quantized(module, schedule.qat, rows, context.seed, constraint) as rounding,
        held(module, schedule.gradual, rounding) as holding,
        rows.reading(module),
    ):
        tensors = {n: p for n, p in module.named_parameters() if p.requires_grad}
        for number, norm in enumerate(norms):
            measured = {"mean": norm.running_mean, "variance": norm.running_var}
            tensors |= {f"norms.{number}.{name}": one for name, one in measured.items()}
        if projections is not None:
            tensors |= {f"projections.{name}": p for name, p in projections.named_parameters()}
        outcome = train(
            tensors,
            rows.padded,
            value,
            score,
            schedule,
            context.seed,
            context.scratch,
            context.progress,
            holding,
            current_team(),
            lambda epoch: rows.begin(epoch, context.seed),
            draws,
        )
    module.to("cpu")
    drawn = draws.as_json() if draws is not None else {}
    return replace(outcome, further=holding.finish() | rounding.finish() | drawn)
