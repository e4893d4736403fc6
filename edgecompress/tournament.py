"""Variants of a model: those that answer alike are timed in turns; all is logged.

A share of 1.02 whose interval reaches below 1 is no gain: the same file, timed against itself,
shows as much. What must not be trusted (emulated, disturbed) is no gain either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.models.inputs import largest_difference, onnx_model, parity_feeds
from edgecompress.models.runner import answers
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Candidate, Feed, Json, Measurement, OnnxModel, find

LOCAL = "local"
"""The machine that runs the recipe, as recipes name it."""


class Tournament:
    """What variants of an ONNX model answer and how fast they are, beside the model itself.

    Parameters
    ----------
    candidate : Candidate
        Whose variants they are; what it answers is expected of them.
    context : Context
    tolerance : float
        Largest absolute difference of the outputs.
    target : str
        Where to time, as the recipe names it.

    Attributes
    ----------
    log : dict of str to dict
        What became of each variant, by its name: its difference, its times, or its outcome.

    Raises
    ------
    StageError
        When the model does not run.
    """

    def __init__(
        self, candidate: Candidate, context: Context, tolerance: float, target: str = LOCAL
    ) -> None:
        self.candidate, self.context, self.target = candidate, context, target
        self.source, self.tolerance = onnx_model(candidate), tolerance
        examples = context.validation or context.train
        self.feeds = parity_feeds(candidate, examples, self.source, context.seed)
        self.expected = answers(self.source, self.feeds)
        self.log: dict[str, dict[str, Any]] = {}

    def admits(self, name: str, model: OnnxModel) -> bool:
        """Run a variant, and tell whether it answers as the model does."""
        entry = self.log.setdefault(name, {})
        try:
            found = answers(model, self.feeds)
        except StageError as error:
            entry["outcome"] = str(error)
            return False
        difference = worst_difference(self.expected, found, self.feeds)
        entry["max_abs_difference"] = difference
        if difference > self.tolerance:
            entry["outcome"] = f"differs by more than {self.tolerance:g}"
            return False
        return True

    def gains(
        self, models: Mapping[str, OnnxModel], what: str, when: str = "time"
    ) -> dict[str, float]:
        """Time variants, the first being the base; give what is surely gained over it.

        Parameters
        ----------
        models : mapping of str to OnnxModel
        what : str
            What they are, for the progress: ``graphs``.
        when : str
            Under which name the times are logged.
        """
        self.context.progress(0, 1, f"timing {len(models)} {what}")
        timed = times(self.candidate, list(models.values()), self.context, self.target)
        for name, found in zip(models, timed, strict=True):
            self.log.setdefault(name, {})[when] = round_json(found)
        return {name: sure_speedup(found) for name, found in zip(models, timed, strict=True)}


def times(
    candidate: Candidate, models: Sequence[OnnxModel], context: Context, target: str = LOCAL
) -> list[tuple[Measurement, ...]]:
    """Time models of a candidate in one job, inference by inference, on a target.

    Returns
    -------
    list of tuple of Measurement
        As ``context.measure`` gives them: the speedup is over the first.
    """
    candidates = [replace(candidate, model=model) for model in models]
    if target == LOCAL:
        return context.measure(candidates)
    return time_interleaved(candidates, context.validation, target=context.target(target))


def sure_speedup(found: Sequence[Measurement]) -> float:
    """Give how much faster than the first candidate; 1 where that is not sure.

    Parameters
    ----------
    found : sequence of Measurement
        What ``context.measure`` gave for one candidate: its ``speedup`` (``x``) has an interval.
    """
    speedup = find(found, "speedup")
    if speedup is None or speedup.invalid is not None:
        return 1.0
    low, high = speedup.interval or (speedup.value, speedup.value)
    return speedup.value if low > 1 or high < 1 else 1.0


def round_json(found: Sequence[Measurement]) -> Json:
    """Give one candidate's times as a step's ``measured`` keeps them."""
    latency, speedup = find(found, "latency_p50"), find(found, "speedup")
    return {
        "latency_p50_ms": round(latency.value, 4) if latency else None,
        "speedup": round(speedup.value, 4) if speedup else None,
        "interval": list(speedup.interval) if speedup and speedup.interval else None,
        "invalid": (speedup.invalid or (latency.invalid if latency else None))
        if speedup
        else "not measured",
    }


def worst_difference(
    expected: Sequence[Sequence[np.ndarray]],
    found: Sequence[Sequence[np.ndarray]],
    feeds: Sequence[Feed],
) -> float:
    """Largest absolute difference over all `feeds`, padding aside; infinite for no numbers."""
    return max(
        largest_difference(before, after, feed)
        for before, after, feed in zip(expected, found, feeds, strict=True)
    )
