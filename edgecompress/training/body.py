"""A trained body under a fresh head: how an encoder that learnt a language learns a task.

The body may be of any shape that surgery leaves; heads of another task mean nothing and go.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgecompress.errors import DataError
from edgecompress.surgery.channels.cutting import keep_inputs
from edgecompress.surgery.families import find_family
from edgecompress.surgery.hidden import hidden_size, keep_hidden
from edgecompress.surgery.model import load_module, save_module, shapes_without_channels
from edgecompress.tasks import task as find_task
from edgecompress.values import Candidate, OnnxModel


def with_head(module: Any, task: str, labels: Sequence[str], seed: int) -> Any:
    """Put a module's body under a new head.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Gives its body away.
    task : str
    labels : sequence of str
        The classes of the new head; none where the task has none.
    seed : int
        Of the weights of the head.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode.

    Raises
    ------
    DataError
        When the architecture has no such head.
    """
    config = copy.deepcopy(module.config)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    cls: Any = find_task(task).head_class(config)
    if cls is None:
        raise DataError(f"models of the type {config.model_type!r} have no head for {task}")
    family = find_family(config)
    for field, value in family.settings if family else ():
        setattr(config, field, value)
    body = module.base_model
    narrow = {} if family else shapes_without_channels(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = cls._from_config(config, attn_implementation="eager", dtype=torch.float32)
    width = hidden_size(module) if family else 0
    if family and width != hidden_size(made):
        keep_hidden(made, range(width))
    # What is not of the body reads as many of its channels as are left.
    outer = {name: shape for name, shape in narrow.items() if len(shape) > 1}
    for name, shape in outer.items():
        if not name.startswith(f"{made.base_model_prefix}.") and name in made.state_dict():
            keep_inputs(made, name, shape[1])
    # A pooler belongs to the head; the body under a head that guesses pieces has none.
    pooler = getattr(made.base_model, "pooler", None)
    if hasattr(body, "pooler"):
        body.pooler = pooler
    body.config = made.config
    setattr(made, made.base_model_prefix, body)
    made.tie_weights()
    return made.eval()


def for_task(
    candidate: Candidate, task: str, labels: Sequence[str], folder: Path, seed: int
) -> Candidate:
    """Give a PyTorch candidate a fresh head for another task, and write it.

    Parameters
    ----------
    candidate : Candidate
        Not changed.
    task : str
    labels : sequence of str
    folder : Path
        Gets ``model``.
    seed : int

    Returns
    -------
    Candidate
        With the tokenizer that the given one has.

    Raises
    ------
    DataError
        When it is an ONNX model, or the architecture has no such head.
    """
    if isinstance(candidate.model, OnnxModel):
        raise DataError(
            f"this model answers {candidate.task}, not {task}, and an ONNX model cannot be given "
            "another head; name the PyTorch candidate that it was exported from"
        )
    module = with_head(load_module(candidate.model), task, labels, seed)
    model = save_module(module, folder / "model")
    return replace(candidate, model=model, task=task, labels=tuple(labels), steps=())
