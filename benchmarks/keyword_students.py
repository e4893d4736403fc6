"""Narrower networks of a keyword spotter: cut, fitted, taught without labels, judged on strangers.

The words are divided by their speakers. For each part a network is cut to a size by
`prune.channels` (the same share from every layer, by Fisher information, its layers fitted by least
squares) and taught by `distil` on the words of the other parts, each in many variations, and on
other speech, all without their labels: the whole network's answers are what is learned. It then
answers the words of the part that was left out, whose speakers nothing of it has heard. So every
word is judged once, by a network that does not know it, and nothing is chosen by it.

Sizes follow each other from the largest: each network is cut out of the one before and taught
longer than that. The learning rate, and that normalizations keep their means, were chosen by how
often a network answers as the whole one to words of speakers that were left out of a part's own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from channels import Work
from keyword_clips import Clips, Samples, varied

from edgecompress.processors.audio import AudioProcessor
from edgecompress.tasks import task
from edgecompress.tasks.answers import Answers
from edgecompress.values import Candidate, Example

KIND = task("audio-classification")


@dataclass(frozen=True)
class Plan:
    """How students are taught.

    Attributes
    ----------
    parts : int
        That the speakers are divided into.
    copies : int
        Variations of each word.
    epochs : int
        Of the first size; twice as many of the second, and so on.
    learning_rate, temperature : float
        Of `distil`.
    """

    parts: int = 3
    copies: int = 20
    epochs: int = 3
    learning_rate: float = 5e-3
    temperature: float = 2.0
    seed: int = 0


@dataclass
class Student:
    """What was found out of one size.

    Attributes
    ----------
    most : int
        Parameters that it may have.
    parameters : int
        That it has: of the largest of all parts.
    cut : dict of int to Answers
        What it answers right after it was cut, by the number of the word.
    taught : dict of int to Answers
    graphs : dict of str to Path
        The first part's network as files, by their form.
    """

    most: int
    parameters: int = 0
    cut: dict[int, Answers] = field(default_factory=dict)
    taught: dict[int, Answers] = field(default_factory=dict)
    graphs: dict[str, Path] = field(default_factory=dict)


def parts_by_speaker(files: Sequence[Path], parts: int) -> list[int]:
    """Give each file of Speech Commands its part; a speaker, who begins its name, is in one."""
    names = [file.name.partition("_")[0] for file in files]
    sizes, place = [0] * parts, {}
    for name, count in sorted(Counter(names).items(), key=lambda one: (-one[1], one[0])):
        place[name] = sizes.index(min(sizes))
        sizes[place[name]] += count
    return [place[name] for name in names]


def whole(found: dict[int, Answers]) -> Answers:
    """Put the answers to single words together, in their order."""
    order = [found[number] for number in sorted(found)]
    return Answers(
        tuple(one.labels[0] for one in order),
        tuple(one.confidence[0] for one in order),
        tuple(one.details[0] for one in order),
    )


def answered(candidate: Candidate, examples: Sequence[Example], numbers: Sequence[int],
             into: dict[int, Answers]) -> int:  # fmt: skip
    """Ask a module; give the number of its parameters."""
    from edgecompress.surgery.model import load_module
    from edgecompress.training.encoding import make_rows

    module = load_module(candidate.model)
    rows = make_rows(candidate, [examples[number] for number in numbers], module)
    found = KIND.decode(rows.outputs(module), rows)
    into.update({number: found.part([at]) for at, number in enumerate(numbers)})
    return sum(one.numel() for one in module.parameters())


def students(
    place: Path, teacher: Path, sizes: Sequence[int], examples: Sequence[Example],
    speech: Sequence[Samples], pieces: Clips, processor: AudioProcessor, labels: Sequence[str],
    plan: Plan, write: Any,
) -> Iterator[Student]:  # fmt: skip
    """Give one student after the other, the largest first, of at most as many parameters as said.

    `write(folder, sounds, rate)` writes clips and gives their files; `teacher` is a folder in
    Hugging Face's form, and `pieces` are clips of `speech`.
    """
    from edgecompress.surgery.model import load_module
    from edgecompress.training.teacher import import_teacher

    random = np.random.default_rng(plan.seed)
    first = import_teacher(str(teacher), KIND.name, list(labels), place / "imported")
    files = [Path(one.inputs["audio"]) for one in examples]
    part, sounds = parts_by_speaker(files, plan.parts), [processor.samples(one) for one in files]
    rate, works = processor.settings.sampling_rate, []
    for number in range(plan.parts):
        mine = [sounds[at] for at in range(len(files)) if part[at] != number]
        made = [*varied(mine, speech, rate, plan.copies, random)]
        clips = write(place / f"part{number}", [*made, *pieces.sounds], rate)
        train = [Example({"audio": one}, labels[0]) for one in clips]  # no label is looked at
        (place / f"work{number}").mkdir()
        works.append(Work(place / f"work{number}", tuple(train), (), first))
    narrow = [first] * plan.parts
    for turn, size in enumerate(sorted(sizes, reverse=True)):
        student = Student(size)
        for number, work in enumerate(works):
            held_out = [at for at in range(len(files)) if part[at] == number]
            # The means and deviations of normalizations count there, and not here.
            there = sum(one.numel() for one in load_module(narrow[number].model).parameters())
            cut = work.apply(
                "prune.channels", narrow[number], target={"size": size / there}, scope="layer",
                multiple_of=1, samples=512, reconstruct=True,
            )  # fmt: skip
            found = answered(cut, examples, held_out, student.cut)
            student.parameters = max(student.parameters, found)
            taught = narrow[number] = work.apply(
                "distil", cut, epochs=(turn + 1) * plan.epochs, learning_rate=plan.learning_rate,
                batch_size=64, label_weight=0.0, temperature=plan.temperature, schedule="cosine",
            )  # fmt: skip
            answered(taught, examples, held_out, student.taught)
            if not number:
                exported = work.apply("export", taught, exporter="dynamo")
                student.graphs["fp32"] = exported.model.path  # type: ignore[union-attr]
                integers = work.apply("quantize.static", exported, method="mse", samples=256)
                student.graphs["int8"] = integers.model.path  # type: ignore[union-attr]
            print(f"{size:,}: part {number + 1} of {plan.parts} is done", file=sys.stderr,
                  flush=True)  # fmt: skip
        yield student
