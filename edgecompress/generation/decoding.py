"""The loop: a graph is given a prompt, and then each token that was chosen from its logits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecompress.generation.sampling import Logits, Sampling, choose
from edgecompress.generation.states import CACHED, beginning, fed_back
from edgecompress.values import TensorSpec

Ids = NDArray[np.int64]


class Graph(Protocol):
    """What the loop runs: an ONNX session that is asked by name (`models.runner.SessionRunner`)."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What it must be given."""
        ...

    @property
    def optional(self) -> tuple[TensorSpec, ...]:
        """What it may be given, as there is a default."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it gives."""
        ...

    def keeping(
        self, fed_back: Mapping[str, str]
    ) -> Callable[[Mapping[str, Any], int], dict[str, Any]]:
        """Give the function that runs it with what is new, and how many tokens are read then."""
        ...


class CachedDecoder:
    """A decoder with what it has read so far; `step` gives it further tokens.

    Parameters
    ----------
    graph : Graph
        With or without states: what has none is given all tokens again.
    constant : mapping of str to ndarray, optional
        Inputs that stay the same at every step: what an encoder gave.
    """

    def __init__(self, graph: Graph, constant: Mapping[str, Any] | None = None) -> None:
        begun = beginning((*graph.specs, *graph.optional), kept=1)
        self.constant: dict[str, Any] = begun | dict(constant or {})
        self.inputs = {spec.name for spec in graph.specs}
        self.fed_back = fed_back(self.inputs, graph.outputs)
        self.run = graph.keeping(self.fed_back)
        self.read: list[int] = []

    def step(self, ids: Sequence[int] | Ids) -> Logits:
        """Read further tokens; give the logits of the one that follows, float32 (vocabulary,)."""
        first = len(self.read) if self.fed_back else 0
        feed: dict[str, Any] = {} if self.read else dict(self.constant)
        self.read += [int(one) for one in ids]
        total = len(self.read)
        feed["input_ids"] = np.array([self.read[first:]], np.int64)
        feed["attention_mask"] = np.ones((1, total), np.int64)
        feed["position_ids"] = np.arange(first, total, dtype=np.int64)[None]
        feed["cache_position"] = feed["position_ids"][0]
        if CACHED in self.constant:
            feed[CACHED] = np.array([first > 0])
        found = self.run(feed, total)
        logits: Logits = found["logits"][0, -1].astype(np.float32, copy=False)
        return logits


def generate(
    decoder: CachedDecoder,
    prompt: Sequence[int] | Ids,
    how: Sampling,
    ends: Collection[int],
    suppressed: Collection[int] = (),
) -> Iterator[int]:
    """Give one token after the other, until one of `ends` or as many as `how` says.

    Parameters
    ----------
    decoder : CachedDecoder
    prompt : sequence of int
        At least one token.
    how : Sampling
        Its stop strings are for who makes text of the tokens.
    ends : collection of int
        Tokens that end an answer; they are not given.
    suppressed : collection of int
        Tokens that are never chosen.
    """
    random = np.random.default_rng(how.seed)
    following: Sequence[int] | Ids = prompt
    for _ in range(how.max_new_tokens):
        logits = decoder.step(following)
        token = choose(logits, decoder.read, how, random, suppressed)
        if token in ends:
            return
        yield token
        following = (token,)
