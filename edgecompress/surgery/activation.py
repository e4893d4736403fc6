"""Another function between the feed-forward matrices of a transformer."""

from __future__ import annotations

from typing import Any

from edgecompress.errors import StageError

NAMES = ("hidden_act", "activation", "activation_function", "hidden_activation")
"""What transformers' configurations call it."""


def use_relu(module: Any) -> None:
    """Put ReLU in the place of every activation that the configuration names, and name it there.

    ReLU compares where GELU takes an error function. The answers move, so that training follows.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Changed in place; saved and loaded, it has ReLU again.

    Raises
    ------
    StageError
        When the configuration names no activation, or no part of the model is one.
    """
    from torch import nn
    from transformers.activations import ACT2FN

    config = module.config
    name = next((name for name in NAMES if isinstance(getattr(config, name, None), str)), None)
    if name is None or getattr(config, name) not in ACT2FN:
        raise StageError("activation: the configuration of this model does not name its activation")
    old = type(ACT2FN[getattr(config, name)])
    places = [
        (parent, child)
        for parent in module.modules()
        for child, part in parent.named_children()
        if type(part) is old
    ]
    if not places:
        raise StageError("activation: no part of this model is the activation of its configuration")
    for parent, child in places:
        setattr(parent, child, nn.ReLU())
    setattr(config, name, "relu")
