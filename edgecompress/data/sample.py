"""A smaller set of examples that stands for all of them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from edgecompress.texts import label_of, tags_of
from edgecompress.values import Example


def stratum(example: Example) -> tuple[str, ...]:
    """Give the group of an example: its file, and its label or the kinds of its tags."""
    kinds = {tag.partition("-")[2] for tag in tags_of(example) if tag != "O"}
    return (example.source, label_of(example), *sorted(kinds))


def stratified_sample(examples: Sequence[Example], count: int, seed: int) -> tuple[int, ...]:
    """Draw `count` examples so that every stratum keeps its share.

    Shares are rounded by the method of largest remainders; where these are equal the larger
    stratum goes first, then the one that comes first.

    Parameters
    ----------
    examples : sequence of Example
    count : int
        All of them when there are no more.
    seed : int
        The same examples and seed give the same sample.

    Returns
    -------
    tuple of int
        Rising indices into `examples`.
    """
    if count >= len(examples):
        return tuple(range(len(examples)))
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[stratum(example)].append(index)
    exact = {name: len(members) * count / len(examples) for name, members in groups.items()}
    takes = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(groups, key=lambda name: (takes[name] - exact[name], -len(groups[name])))
    for name in by_remainder[: count - sum(takes.values())]:
        takes[name] += 1
    chance = random.Random(seed)  # noqa: S311 - a sample, no secret
    drawn = (chance.sample(members, takes[name]) for name, members in groups.items())
    return tuple(sorted(index for part in drawn for index in part))
