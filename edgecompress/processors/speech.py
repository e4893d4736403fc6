"""Both sides of a model of speech: the spectrum of a sound, and the tokens of its transcript.

A sound that is longer than a window is cut where it is quietest in the last seconds of each window;
a window in which nothing is louder than `SILENT` holds no words, and the model is not asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.modules.decoding import FILE as DECODING
from edgecompress.modules.decoding import Decoding, decoding_of
from edgecompress.processors.audio import FILE, AudioProcessor
from edgecompress.processors.base import Array, fields_of
from edgecompress.processors.sounds import Samples, Sound
from edgecompress.processors.text import TextProcessor
from edgecompress.values import file_digest

TOKENIZER = "tokenizer.json"
HALVED = 2
"""Frames of a spectrum for each place of the encoder, whose second convolution has this stride."""
SEAM = 5.0
"""Seconds at the end of a window among which the quietest place is looked for."""
QUIET = 0.1
"""Seconds of a place."""
SILENT = 1e-3
"""Root mean square of the loudest place (-60 dB of full scale) below which there are no words."""


@dataclass(frozen=True, eq=False)
class SpeechProcessor(AudioProcessor):
    """Makes arrays of sounds, and texts of tokens; `SpeechProcessor.load` reads one from a folder.

    Attributes
    ----------
    decoding : Decoding
        How the model is asked.
    """

    kind: ClassVar[str] = "speech"
    files: ClassVar[tuple[str, ...]] = (FILE, TOKENIZER, DECODING)

    tokenizer: Any = None
    decoding: Decoding = field(default_factory=lambda: Decoding(0, 0))

    @classmethod
    def load(cls, directory: Path | None) -> SpeechProcessor:
        """Read the description of sounds, the tokenizer, and how the model is asked.

        Raises
        ------
        DataError
            When a file is missing or damaged, or the model takes sounds of any length.
        """
        base = AudioProcessor.load(directory)
        folder = Path(directory or "")  # without one the description has been missed already
        text = TextProcessor.load(folder)
        if base.window is None:
            raise DataError(
                "says no length of what the model is fed at once (chunk_length)", file=folder / FILE
            )
        given = fields_of(base)
        found = hashlib.sha256(base.digest.encode())
        for name in (TOKENIZER, DECODING):
            found.update(f"{name} {file_digest(folder / name)}\n".encode())
        given["digest"] = found.hexdigest()
        return cls(**given, tokenizer=text.tokenizer, decoding=decoding_of(folder))

    @classmethod
    def copy_files(cls, source: Path, folder: Path) -> None:
        """Take the description of sounds and the tokenizer out of the folder of a checkpoint.

        Raises
        ------
        DataError
            When one is missing.
        """
        if not (source / TOKENIZER).is_file():
            raise DataError(
                f"{TOKENIZER} is missing, which makes text of what the model says; save it with "
                "AutoTokenizer.from_pretrained(…).save_pretrained(directory)",
                file=source,
            )
        super().copy_files(source, folder)
        # Byte for byte: what transformers writes of it anew may differ.
        (folder / TOKENIZER).write_bytes((source / TOKENIZER).read_bytes())

    def windows(self, sound: Sound) -> list[tuple[int, int]]:
        """Give the first sample of each window that is not silent, and the one behind its last."""
        samples = self.samples(sound)
        length, rate = int(self.window or 0), self.settings.sampling_rate
        place = max(1, round(QUIET * rate))
        found, start = [], 0
        while start < len(samples):
            stop = min(start + length, len(samples))
            if stop < len(samples):
                begin = max(start + 1, stop - round(SEAM * rate))
                loud = loudness(samples[begin:stop], place)
                stop = begin + int(loud.argmin()) * place + place // 2
            if not self.silent(samples[start:stop]):
                found.append((start, stop))
            start = stop
        return found

    def silent(self, samples: Samples) -> bool:
        """Whether nothing in a part of a sound is loud enough to be words."""
        place = max(1, round(QUIET * self.settings.sampling_rate))
        return float(loudness(samples, place).max()) < SILENT

    @property
    def time_samples(self) -> int:
        """How many samples there are from one of the model's times to the next."""
        spectrum = self.settings.spectrum
        return HALVED * spectrum.hop_length if spectrum is not None else HALVED

    def window_feed(self, sound: Sound, start: int, stop: int) -> Mapping[str, Array]:
        """Give the input of a window, which is made whenever it is asked for."""
        return WindowFeed(self, sound, start, stop)

    def text(self, tokens: Sequence[int]) -> str:
        """Make text of tokens, those of the language and the like left out."""
        found: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return found


class WindowFeed(Mapping[str, Array]):
    """The input of a part of a sound."""

    def __init__(self, processor: SpeechProcessor, sound: Sound, start: int, stop: int) -> None:
        self._processor, self._sound, self._part = processor, sound, slice(start, stop)

    def __getitem__(self, name: str) -> Array:
        if name not in self._processor.settings.inputs:
            raise KeyError(name)
        return self._processor.features(self._processor.samples(self._sound)[self._part])

    def __iter__(self) -> Iterator[str]:
        return iter(self._processor.settings.inputs)

    def __len__(self) -> int:
        return len(self._processor.settings.inputs)


def loudness(samples: Samples, place: int) -> Array:
    """Give the root mean square of each place of so many samples, float64 (places,)."""
    count = max(1, len(samples) // place)
    whole = np.zeros(count * place) if len(samples) < place else samples[: count * place]
    whole = np.asarray(whole, np.float64)
    whole[: len(samples)] = samples[: count * place]
    return np.sqrt(np.square(whole.reshape(count, place)).mean(axis=1))
