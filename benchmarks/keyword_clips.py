"""Clips of one second of sounds that nobody has labelled, for calibration and distillation.

Pieces of recordings (`cut`), some short ones in silence as single words are, and words (`varied`):
at other speeds, louder and softer, earlier and later, with noise, and two at a time. A model's own
answers say which of many pieces are kept: so that its classes are about as frequent, as far as they
are heard at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.models.session import open_session
from edgecompress.processors.audio import AudioProcessor
from edgecompress.processors.sounds import SUFFIXES, resampled
from edgecompress.values import OnnxModel

Samples = NDArray[np.float32]
MOST_OF_A_CLASS = 0.3
"""Share of the clips that one class may have."""


@dataclass(frozen=True)
class Clips:
    """Clips, their features, and what the model says of each: the number of a class."""

    sounds: list[Samples]
    features: NDArray[np.float32]
    answers: NDArray[np.int64]


def recordings(folders: Sequence[Path], processor: AudioProcessor) -> list[Samples]:
    """Read all sounds of some folders at the model's rate."""
    files = [one for place in folders for one in sorted(place.iterdir()) if one.suffix in SUFFIXES]
    return [processor.samples(file) for file in files]


def cut(speech: Sequence[Samples], rate: int, random: np.random.Generator) -> Iterator[Samples]:
    """Give one clip after the other, without an end."""
    whole = [one for one in speech if len(one) > 2 * rate]
    shares = np.array([len(one) for one in whole], np.float64)
    shares /= shares.sum()

    def piece(seconds: float) -> Samples:
        one = whole[random.choice(len(whole), p=shares)]
        count = round(seconds * rate)
        start = random.integers(0, len(one) - count)
        return one[start : start + count]

    while True:
        speed = random.uniform(0.85, 1.15) if random.random() < 0.5 else 1.0
        seconds = random.uniform(0.3, 0.8) if random.random() < 0.6 else 1.0
        values = piece(min(seconds * speed, 1.3))
        if speed != 1.0:
            values = resampled(values, round(rate * speed / 100) * 100, rate)
        clip = np.zeros(rate, np.float32)
        values = values[:rate]
        place = random.integers(0, rate - len(values) + 1)
        fade = np.minimum(1, np.arange(1, len(values) + 1) / (0.01 * rate)).astype(np.float32)
        clip[place : place + len(values)] = values * fade * fade[::-1]
        clip *= random.uniform(0.05, 0.9) / max(float(np.abs(clip).max()), 1e-4)
        if random.random() < 0.2:
            other = piece(1.0)
            clip += other * random.uniform(0.05, 0.3) / max(float(np.abs(other).max()), 1e-4)
        if random.random() < 0.6:
            level = float(np.sqrt((clip**2).mean())) * 10 ** (-random.uniform(5, 40) / 20)
            clip += random.normal(0, level, rate).astype(np.float32)
        if random.random() < 0.15:  # a recording that is shorter than a second
            clip[rate - random.integers(1, rate // 4) :] = 0
        yield np.clip(clip, -1, 1).astype(np.float32)


def varied(
    words: Sequence[Samples], speech: Sequence[Samples], rate: int, copies: int,
    random: np.random.Generator,
) -> Iterator[Samples]:  # fmt: skip
    """Give each word as it is, and so many times otherwise."""
    for word in words:
        yield _whole(word, rate, 0)
        for _ in range(copies):
            said = word
            if random.random() < 0.6:
                said = _faster(said, random.uniform(0.85, 1.18))
            clip = _whole(said, rate, int(random.integers(-rate // 10, rate // 10)))
            loud = float(clip.std()) + 1e-5
            if random.random() < 0.3:
                other = words[int(random.integers(len(words)))]
                other = _whole(other, rate, int(random.integers(-rate // 5, rate // 5)))
                share = random.uniform(0.1, 1) * loud / (float(other.std()) + 1e-5)
                clip = clip * np.float32(random.uniform(0.3, 1)) + other * np.float32(share)
            if random.random() < 0.5:
                level = loud * 10 ** (-random.uniform(5, 35) / 20)
                clip = clip + level * _coloured(rate, random)
            if random.random() < 0.15:
                long = speech[int(random.integers(len(speech)))]
                start = int(random.integers(0, max(1, len(long) - rate)))
                behind = _whole(long[start : start + rate], rate, 0)
                level = loud * 10 ** (-random.uniform(5, 25) / 20) / (float(behind.std()) + 1e-4)
                clip = clip + behind * np.float32(level)
            clip = clip * 10 ** (random.uniform(-12, 6) / 20)
            yield np.clip(clip, -1, 1).astype(np.float32)


def _faster(samples: Samples, speed: float) -> Samples:
    """Give samples at another speed, which also makes the voice higher or lower."""
    places = np.arange(round(len(samples) / speed)) * speed
    made = np.interp(places, np.arange(len(samples)), samples)
    return np.asarray(made, np.float32)


def _whole(samples: Samples, count: int, later: int) -> Samples:
    """Give so many samples with a sound in their middle, or earlier or later."""
    clip = np.zeros(count, np.float32)
    start = later + max(0, count - len(samples)) // 2
    first, last = max(0, start), min(count, start + len(samples))
    clip[first:last] = samples[first - start : last - start]
    return clip


def _coloured(count: int, random: np.random.Generator) -> Samples:
    """Give noise of deviation 1, the deeper the louder, or not."""
    bins = np.fft.rfft(random.normal(size=count))
    bins /= np.maximum(1, np.arange(len(bins))) ** random.choice([0, 0.4, 0.8])
    made = np.fft.irfft(bins, count)
    return np.asarray(made / made.std(), np.float32)


def balanced(
    speech: Sequence[Samples], model: Path, processor: AudioProcessor, count: int, tried: int,
    seed: int,
) -> Clips:  # fmt: skip
    """Keep `count` of `tried` clips, none of the model's classes too often."""
    random = np.random.default_rng(seed)
    source = cut(speech, processor.settings.sampling_rate, random)
    session = open_session(OnnxModel(model))
    name = session.get_inputs()[0].name
    sounds: list[Samples] = []
    features: list[Any] = []
    answers: list[int] = []
    for _ in range(tried):
        clip = next(source)
        # As a file of 16 bits holds it, which is what is trained on.
        clip = np.round(clip * 32767).astype(np.int16).astype(np.float32) / np.float32(32768)
        made = processor.features(clip)
        sounds.append(clip)
        features.append(made)
        answers.append(int(session.run(None, {name: made[None]})[0].argmax()))
    most, taken = round(count * MOST_OF_A_CLASS), Counter[int]()
    kept: list[int] = []
    for number in random.permutation(tried).tolist():
        if len(kept) < count and taken[answers[number]] < most:
            taken[answers[number]] += 1
            kept.append(number)
    return Clips(
        [sounds[number] for number in kept],
        np.stack([features[number] for number in kept]),
        np.array([answers[number] for number in kept], np.int64),
    )
