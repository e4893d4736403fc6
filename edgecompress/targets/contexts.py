"""A language model's two speeds, by how much it has read: a prompt at once, and a token behind it.

Both are inferences of the same graph, so that they are timed, counted and weighed as any other:
with an empty cache and as many tokens as the context has, and with a full one and one token. What
a cache holds makes no difference to that; here it is zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from edgecompress import timing
from edgecompress.generation.states import CACHED, IN_PLACE, KEPT_LOGITS, is_state
from edgecompress.models.graph import load_model, signature
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Readings, feeds_from_rows
from edgecompress.targets.cold import Cold
from edgecompress.targets.instructions import Instructions
from edgecompress.targets.probe import Probe, loop_of
from edgecompress.values import Candidate, Feed, Measurement, Model, OnnxModel, TensorSpec

Part = Literal["prompt", "token"]
TOKENS = 64
"""Ids that prompts are made of: from 0 on, which any vocabulary has."""
MOST_COUNT = 10
"""Inferences at least: of long prompts a second each."""


def contexts_of(candidate: Candidate, wanted: Iterable[int]) -> tuple[int, ...]:
    """Give those contexts that a candidate can be asked about: none where it keeps no states."""
    from edgecompress.tasks import load_processor, takes_examples

    model = candidate.model
    if not isinstance(model, OnnxModel) or model.parts:
        return ()
    specs = signature(model)
    known = {"input_ids", "attention_mask", "position_ids", KEPT_LOGITS, CACHED}
    if not any(is_state(one.name) for one in specs) or any(
        not (is_state(one.name) or one.name in known) for one in specs
    ):
        return ()
    most = 0
    if takes_examples(candidate):
        processor = load_processor(str(candidate.task), candidate.preprocessor)
        most = int(getattr(processor, "max_length", 0))
    return tuple(one for one in wanted if not most or one < most)


def feed_at(model: OnnxModel, context: int, part: Part) -> Feed:
    """Make the inputs that read a prompt of so many tokens, or one token behind them.

    States that are written in place have no tokens here: a target keeps them itself.
    """
    specs = list(signature(model))
    proto = load_model(model.path)
    if any(tensor.name == KEPT_LOGITS for tensor in proto.graph.initializer):
        specs.append(TensorSpec(KEPT_LOGITS, "int64", ()))
    past, length = (0, context) if part == "prompt" else (context, 1)
    in_place = any(entry.key == IN_PLACE for entry in proto.metadata_props)
    given = 0 if in_place else past
    made: Feed = {}
    for spec in specs:
        if is_state(spec.name):
            sizes = enumerate(spec.shape)
            shape = [n if isinstance(n, int) else given if axis else 1 for axis, n in sizes]
            made[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
        elif spec.name == KEPT_LOGITS:
            made[spec.name] = np.ones([1] * len(spec.shape), np.int64)
        elif spec.name == CACHED:
            made[spec.name] = np.array([past > 0])
    made["input_ids"] = np.arange(length, dtype=np.int64)[None] % TOKENS
    made["attention_mask"] = np.ones((1, past + length), np.int64)
    made["position_ids"] = np.arange(past, past + length, dtype=np.int64)[None]
    return made


@dataclass(frozen=True, eq=False)
class _AtContext(Probe):
    """A question about one context.

    Parameters
    ----------
    context : int
        Tokens.
    parts : tuple of str
        ``prompt``, ``token`` or both, in one item.
    """

    accepts: ClassVar[tuple[type[Model], ...]] = (OnnxModel,)
    context: int = 128
    parts: tuple[Part, ...] = ("prompt", "token")

    def feeds(self) -> tuple[Feeds, str]:
        """Make one item of the parts."""
        model = self.candidate.model
        assert isinstance(model, OnnxModel)  # noqa: S101 - what it accepts
        rows = [feed_at(model, self.context, part) for part in self.parts]
        return feeds_from_rows(rows, [0] * len(rows)), "made up"


@dataclass(frozen=True, eq=False)
class ContextTime(_AtContext):
    """Time one of both parts: ``first_token`` (ms) or ``token_rate`` (1/s)."""

    def job(self, feeds: Feeds) -> Job:
        """Time few inferences, where they are long."""
        clock: Clock = replace(self.clock, min_count=min(self.clock.min_count, MOST_COUNT))
        models = (JobModel(self.candidate.model), JobModel(None))
        return Job("time", models, (feeds,), **clock.fields())

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:  # noqa: ARG002
        """Take the median."""
        found = timing.percentile(
            readings.series[0],
            loop_of(readings, self.target.name),
            0.5,
            metric="first_token",
            target=self.target.name,
            conditions={"threads": self.clock.threads, "batch": 1, "source": source},
            rules=self.rules,
        )
        found = replace(found, slice=f"context:{self.context}")
        if self.parts == ("prompt",):
            return (found,)
        ends = found.interval
        rate = replace(
            found,
            metric="token_rate",
            value=1e3 / found.value,
            unit="1/s",
            interval=None if ends is None else (1e3 / ends[1], 1e3 / ends[0]),
        )
        return (rate,)


@dataclass(frozen=True, eq=False)
class ContextMemory(_AtContext, Cold):
    """Weigh a process that reads a prompt and gives a token behind it: ``peak_memory``."""

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Take the peak."""
        found = super().read(readings, feeds, source)
        place = f"context:{self.context}"
        return tuple(replace(one, slice=place) for one in found if one.metric == "peak_memory")


@dataclass(frozen=True, eq=False)
class ContextInstructions(_AtContext, Instructions):
    """Count the ``instructions`` of one of both parts."""

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Take all of them."""
        first = super().read(readings, feeds, source)[:1]
        return tuple(replace(one, slice=f"{self.parts[0]}:{self.context}") for one in first)
