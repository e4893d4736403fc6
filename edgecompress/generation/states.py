"""What a graph gives to its own next run: the keys and values of the tokens that it has read.

Names are those that exporters and runtimes share: ``past_key_values.N.key`` is given what the run
before called ``present.N.key`` (Optimum, transformers.js, ONNX Runtime GenAI); so are
``past_key_values.N.decoder.key`` of models with an encoder, and ``past.N.key``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgecompress.values import Feed, TensorSpec

KEPT_LOGITS = "num_logits_to_keep"
"""Input of one number: for how many tokens, counted from the end, there are logits; 0: for all.
Graphs that are exported here have a default for it, so that who does not know it may leave it out.
"""
CACHED = "use_cache_branch"
"""Input of graphs that hold the first step and the others apart (Optimum's merged decoders)."""

IN_PLACE = "edgecompress.states_in_place"
"""In a graph's metadata: its states may be given, and taken, in one place that has room for more
tokens than were read; how many were, the graph takes from the attention mask."""
TOKENS_AXIS = 2
"""Of such states, (batch, heads, tokens, size)."""


def is_state(name: str) -> bool:
    """Whether an input holds what an earlier run gave."""
    return name.startswith(("past_key_values.", "past."))


def fed_back(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, str]:
    """Give, for every input that holds a state, the output that it is given next.

    An input whose output the graph lacks stays as it is (keys of an encoder, computed once).
    """
    known = set(outputs)
    found = {}
    for name in filter(is_state, inputs):
        _, _, rest = name.partition(".")
        if f"present.{rest}" in known:
            found[name] = f"present.{rest}"
    return found


def beginning(specs: Iterable[TensorSpec], batch: int = 1, *, kept: int = 0) -> Feed:
    """Make what a graph is given at its first step beside its tokens: empty states.

    Parameters
    ----------
    specs : iterable of TensorSpec
        The graph's inputs, those that have a default included where they are to be set.
    batch : int
    kept : int
        For how many tokens logits are wanted; 0: for all.
    """
    made: Feed = {}
    for spec in specs:
        if spec.name == KEPT_LOGITS:
            made[spec.name] = np.full([int(size) for size in spec.shape], kept, np.int64)
        elif spec.name == CACHED:
            made[spec.name] = np.zeros(1, np.bool_)
        elif is_state(spec.name):
            sizes = [
                size if isinstance(size, int) else 0 if axis else batch
                for axis, size in enumerate(spec.shape)
            ]
            made[spec.name] = np.zeros(sizes, np.dtype(spec.dtype))
    return made


def unread(feed: Feed, specs: Iterable[TensorSpec]) -> Feed:
    """Give inputs of a graph, from ``input_ids`` (batch, length), when it has read nothing."""
    given = tuple(specs)
    if not any(is_state(spec.name) for spec in given):
        return feed
    batch, length = feed["input_ids"].shape
    places = np.broadcast_to(np.arange(length), (batch, length)).copy()
    new = {"attention_mask": np.ones((batch, length), np.int64), "position_ids": places}
    return feed | {name: new[name] for name in new if name in feed} | beginning(given, batch)


def begins(spec: TensorSpec) -> bool:
    """Whether `beginning` makes an input."""
    return spec.name in (KEPT_LOGITS, CACHED) or is_state(spec.name)
