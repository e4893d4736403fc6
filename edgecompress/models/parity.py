"""Whether the graph of one part of a model says what the part says in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecompress.models.session import open_session
from edgecompress.surgery.dynamo_export import Traced
from edgecompress.values import OnnxModel

MORE = 2
"""Sizes of free axes are asked for as they were traced, and so much larger."""


def difference(part: Any, traced: Traced, model: OnnxModel) -> float:
    """Give the largest difference of any output, on inputs of two sizes.

    Parameters
    ----------
    part : torch.nn.Module
    traced : Traced
        What the exporter has followed; its ``names`` are the graph's inputs in their order.
    model : OnnxModel
    """
    import torch

    worst, session = 0.0, open_session(model)
    for more in (0, MORE):
        names = iter(traced.names or tuple(traced.example))

        def sized(value: Any, more: int = more, names: Any = names) -> Any:
            if isinstance(value, list):
                return [sized(one) for one in value]
            axes = traced.axes.get(next(names), {})
            for axis in axes:
                value = torch.cat(
                    [value, value.narrow(axis, 0, min(more, value.shape[axis]))], axis
                )
            return value

        given = {name: sized(value) for name, value in traced.example.items()}
        with torch.inference_mode():
            answer = part(**given)
        flat = [
            one
            for value in given.values()
            for one in (value if isinstance(value, list) else [value])
        ]
        feed = zip(
            traced.names or tuple(traced.example), (one.numpy() for one in flat), strict=True
        )
        found = session.run(list(traced.outputs), dict(feed))
        for name, value in zip(traced.outputs, found, strict=True):
            gap = float(np.abs(answer[name].numpy().astype(np.float64) - value).max())
            worst = max(worst, gap if np.isfinite(gap) else float("inf"))
    return worst
