"""Splits that a source does not have: drawn from its training examples by a seed.

Equal contents and equal groups stay on one side, every label is in train, and each label keeps its
share of every split as far as whole numbers allow.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgecompress.data.base import SPLITS, DataConfig, Split
from edgecompress.data.sample import stratum
from edgecompress.errors import DataError
from edgecompress.examples import content
from edgecompress.texts import labels_in
from edgecompress.values import Example, Json

ALMOST = 1e-6  # shares such as a third are written with a few digits


class SplitSpec(BaseModel):
    """Shares of the training examples by which splits are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    train: float | None = Field(default=None, gt=0, lt=1)
    """What stays to learn from; left out: all that the others leave."""
    validation: float | None = Field(default=None, gt=0, lt=1)
    """Share to choose, tune and stop on."""
    test: float | None = Field(default=None, gt=0, lt=1)
    """Share for the figures that are shown."""
    group: str | None = None
    """A column whose equal values stay together, such as the author or the document."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Another one draws otherwise. It is not the recipe's seed, so that runs of several seeds are
    tested on the same examples."""

    @model_validator(mode="after")
    def _whole(self) -> SplitSpec:
        drawn = [share for share in (self.validation, self.test) if share is not None]
        if not drawn:
            raise ValueError("give validation or test a share, such as 0.1")
        total = sum(drawn) + (self.train or 0.0)
        if self.train is not None and abs(total - 1) > ALMOST:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        if total >= 1 - ALMOST and self.train is None:
            raise ValueError(f"the shares add up to {total:g}, so that nothing is left for train")
        return self

    @property
    def shares(self) -> dict[Split, float]:
        """The share of each split that is drawn, train's first."""
        given = {"validation": self.validation, "test": self.test}
        found: dict[Split, float] = {"train": 1.0}
        for split in SPLITS[1:]:
            share = given[split]
            if share is not None:
                found[split] = share
                found["train"] -= share
        return found


class DrawnData(DataConfig):
    """Data of which some splits may be drawn from the training examples."""

    split: SplitSpec | None = None
    """Shares by which splits that have no data of their own are drawn from `train`."""

    @abstractmethod
    def own(self, split: Split, group: str | None = None) -> Iterator[tuple[Example, str]]:
        """Give the examples that stand in a split's own data, each with its value of `group`."""

    @abstractmethod
    def has_own(self, split: Split) -> bool:
        """Say whether a split has data of its own."""

    @model_validator(mode="after")
    def _drawn_once(self) -> DrawnData:
        for split in self.split.shares if self.split else ():
            if split != "train" and self.has_own(split):
                raise ValueError(f"{split} has data of its own and a share under split; keep one")
        if self.split and self.split.group and "columns" not in type(self).model_fields:
            raise ValueError(f"the format {self.format} has no columns; leave split.group out")
        return self

    def is_drawn(self, split: Split) -> bool:
        """Say whether a split is what was drawn, or what that left of train."""
        return self.split is not None and split in self.split.shares

    def read(self, split: Split) -> tuple[Example, ...]:
        """Read a split's own data, or draw it."""
        if self.split is None or not self.is_drawn(split):
            return tuple(example for example, _ in self.own(split))
        whole = list(self.own("train", self.split.group))
        drawn = draw([one for one, _ in whole], [group for _, group in whole], self.split)
        return tuple(whole[index][0] for index in drawn[split])

    def drawn(self, split: Split) -> Json | None:
        """Say by what share, seed and group a split is drawn."""
        if self.split is None or not self.is_drawn(split):
            return None
        found: Json = {"share": round(self.split.shares[split], 6), "seed": self.split.seed}
        return found | ({"group": self.split.group} if self.split.group else {})

    def facts(self) -> dict[str, str]:
        """Say how splits are drawn."""
        if self.split is None:
            return super().facts()
        shares = [f"{share:.3g} {split}" for split, share in self.split.shares.items()]
        by = f"equal values of {self.split.group} and equal texts" if self.split.group else (
            "equal texts"
        )  # fmt: skip
        said = (
            f"{', '.join(shares)}: drawn from train by seed {self.split.seed}, each label by its "
            f"share; {by} stay together"
        )
        return {**super().facts(), "splits drawn": said}


def draw(
    examples: Sequence[Example], groups: Sequence[str], spec: SplitSpec
) -> dict[Split, list[int]]:
    """Divide examples into splits.

    Units (examples of one group, or of one content) are ordered by their labels, and among those by
    size and a hash of seed and name; one after the other goes where most is lacking. So every label
    keeps its share, sizes are right to within a unit, and what a unit's neighbours are in the file
    does not matter. What bears a label that train does not have yet goes to train.

    Parameters
    ----------
    examples : sequence of Example
    groups : sequence of str
        Of each example; empty: it is alone with those of the same content.
    spec : SplitSpec

    Returns
    -------
    dict of str to list of int
        Rising indices into `examples`, by split.

    Raises
    ------
    DataError
        When a split would be empty.
    """
    members = units(examples, groups)
    labels = {name: _labels(examples[index] for index in them) for name, them in members.items()}
    keys = {
        name: (
            _common(examples[index] for index in them),
            -len(them),
            hashlib.sha256(f"{spec.seed} {name}".encode()).digest(),
        )
        for name, them in members.items()
    }
    found: dict[Split, list[int]] = {split: [] for split in spec.shares}
    taught: set[str] = set()
    total = 0
    for name in sorted(members, key=lambda one: keys[one]):
        total += len(members[name])
        lacking = {s: share * total - len(found[s]) for s, share in spec.shares.items()}
        split = max(lacking, key=lambda one: lacking[one])
        if not labels[name] <= taught:
            split = "train"
        if split == "train":
            taught |= labels[name]
        found[split] += members[name]
    for split, share in spec.shares.items():
        if not found[split]:
            many = f"{len(members)} groups" if any(groups) else f"{len(members)} different texts"
            raise DataError(
                f"a share of {share:g} for {split} gives it none of {many}; raise it (data.split)"
            )
    return {split: sorted(indices) for split, indices in found.items()}


def units(examples: Sequence[Example], groups: Sequence[str]) -> Mapping[str, list[int]]:
    """Give the indices of examples that must stay together, by a name.

    Examples of one group belong together, and so do examples of one content, whatever their groups:
    a text that two authors share joins these.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    names = []
    for example, group in zip(examples, groups, strict=True):
        own = f"content {content(example)}"
        names.append(own)
        if group:
            ours, theirs = sorted((root(own), root(f"group {group}")))
            parent[ours] = theirs
    found: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        found[root(name)].append(index)
    return found


def _labels(examples: Iterator[Example]) -> set[str]:
    found: set[str] = set()
    for example in examples:
        found |= labels_in(example) - {"O"}
    return found


def _common(examples: Iterator[Example]) -> tuple[Any, ...]:
    """Give the commonest stratum of a unit; of equally common ones the first by name."""
    counts = Counter(stratum(example) for example in examples)
    return min(counts, key=lambda one: (-counts[one], one))
