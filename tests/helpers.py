"""What several tests need: a stage's context, small labelled examples, tiny models."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.context import Context
from edgecompress.targets import Target, open_target
from edgecompress.texts import text_example, words_example
from edgecompress.values import Candidate, Example, Measurement

PLACES = ("Kano", "Lagos", "Dodoma", "Mombasa", "Zaria", "Arusha")
PEOPLE = ("Amina", "Bello", "Juma", "Halima", "Chidi", "Neema")
WORDS = ("ta", "je", "kasuwa", "jiya", "alienda", "sokoni", "leo", "na", "dey", "waka", "market")


@dataclass(frozen=True)
class SmallContext(Context):
    """A `Context` on folders of a test's own; `said` records the progress."""

    cached: Any = None
    measure: Any = None
    target: Any = None
    progress: Any = None
    seed: int = 7
    cache: Path = None  # type: ignore[assignment]
    targets: Mapping[str, Any] = field(default_factory=dict)
    said: list[tuple[float, float, str]] = field(default_factory=list)
    built: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        own = {"measure": self.time, "target": self.open, "cached": self.keep, "progress": self.say}
        for name, function in own.items():  # what a test gives wins over this context's own
            given = getattr(self, name)
            if given is None or isinstance(getattr(given, "__self__", None), SmallContext):
                object.__setattr__(self, name, function)

    def time(self, candidates: Sequence[Candidate]) -> list[tuple[Measurement, ...]]:
        raise NotImplementedError("this context times nothing")

    def open(self, name: str) -> Target:
        return self.targets[name] if name in self.targets else open_target(name)

    def keep(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder = self.cache / name
        if not folder.exists():
            aside = self.cache / f"{name}.part"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            build(aside)
            aside.rename(folder)
            self.built.append(str(key.get("output", name)))
        return folder

    def say(self, done: float, total: float, what: str = "") -> None:
        self.said.append((done, total, what))


def small_context(path: Path, **fields: Any) -> SmallContext:
    """Make a context whose folders lie below `path`."""
    found = {name: path / name for name in ("folder", "scratch", "cache")}
    for folder in found.values():
        folder.mkdir(parents=True, exist_ok=True)
    return SmallContext(**found, **fields)


def tagged_examples(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Sentences with people and places in them, tagged; a tiny model learns them."""
    chance = random.Random(seed)
    found = []
    for index in range(count):
        words, tags = [], []
        for _ in range(chance.randint(3, 9)):
            kind = chance.random()
            group, tag = (WORDS, "O")
            if kind < 0.2:
                group, tag = PEOPLE, "B-PER"
            elif kind < 0.4:
                group, tag = PLACES, "B-LOC"
            words.append(chance.choice(group))
            tags.append(tag)
        source = ("hau", "swa")[index % 2]
        found.append(words_example(words=tuple(words), tags=tuple(tags), source=source))
    return tuple(found)


def labelled_texts(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Texts that are about a person or a place; a tiny model learns which."""
    chance = random.Random(seed)
    found = []
    for index in range(count):
        person = chance.random() < 0.5
        name = chance.choice(PEOPLE if person else PLACES)
        rest = [chance.choice(WORDS) for _ in range(chance.randint(2, 7))]
        rest.insert(chance.randrange(len(rest)), name)
        label = "person" if person else "place"
        source = ("hau", "swa")[index % 2]
        found.append(text_example(text=" ".join(rest), label=label, source=source))
    return tuple(found)


def tiny_teacher(
    path: Path, examples: Sequence[Example], task_name: str, **shape: Any
) -> Candidate:
    """Make a BERT of 3 layers and hidden size 32 with its own tokenizer, untrained."""
    from edgecompress.tasks import task
    from edgecompress.training.new_teacher import NewTeacher

    sizes = {
        "layers": 3,
        "hidden_size": 32,
        "heads": 4,
        "intermediate_size": 64,
        "vocabulary": 120,
        "max_length": 32,
    }
    labels = task(task_name).label_names(examples)
    return NewTeacher(**{**sizes, **shape}).make(examples, task_name, labels, path, seed=3)


@contextmanager
def only_layers(module: Any, kept: Sequence[int]) -> Iterator[None]:
    """While inside, `module` runs only the named layers; nothing is copied or lost."""
    from edgecompress.surgery.families import family_of

    family = family_of(module.config)
    there = family.run_layers(module)
    family.set_layers(module, [there[index] for index in kept])
    try:
        yield
    finally:
        family.set_layers(module, there)


def mean_loss(module: Any, rows: Any) -> float:
    """Mean cross entropy of a module over labelled rows, each by itself."""
    import torch

    from edgecompress.training.losses import example_losses

    with torch.inference_mode():
        losses = [
            float(example_losses(module(**rows.feed([row])).logits, rows.taught([row])["labels"]))
            for row in range(len(rows))
        ]
    return sum(losses) / len(losses)
