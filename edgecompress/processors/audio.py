"""Sounds: read, resampled, cut, made into spectra and normalised as a model was trained with them.

What ``preprocessor_config.json`` says is followed as transformers' feature extractors follow it,
with numpy alone; `spectra` has the arithmetic, `sounds` the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.processors.audio_settings import AudioSettings, read_settings
from edgecompress.processors.base import Array, Processor
from edgecompress.processors.sounds import (
    Samples,
    Sound,
    Waveform,
    read_sound,
    resampled,
    sound_seconds,
)
from edgecompress.processors.spectra import Spectrum
from edgecompress.reading import read_bytes, read_json
from edgecompress.values import Json, TensorSpec

FILE = "preprocessor_config.json"
WHOLE = "processor_config.json"
"""Where transformers 5 writes that of a model with a tokenizer: under ``feature_extractor``."""
FILE_BYTES = 4 * 2**20
KEPT_BYTES = 256 * 2**20
"""Of what sounds in files have become already: 16,000 seconds in 40 bands. Further ones are made
again when they are fed again."""
MASK = "attention_mask"
SMALLEST = 1e-7  # variance that is added, as `Wav2Vec2FeatureExtractor` does


@dataclass(frozen=True, eq=False)
class AudioProcessor(Processor):
    """Makes arrays of sounds; `AudioProcessor.load` reads one from its folder."""

    kind: ClassVar[str] = "audio"
    files: ClassVar[tuple[str, ...]] = (FILE,)

    settings: AudioSettings
    digest: str
    _kept: dict[tuple[Path, int, int, float], Array] = field(default_factory=dict, repr=False)
    _room: list[int] = field(default_factory=lambda: [KEPT_BYTES], repr=False)
    _last: dict[tuple[Path, int, int], Samples] = field(default_factory=dict, repr=False)

    @property
    def input_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Its input, and the mask where the model was trained with one."""
        return (*self.settings.inputs, *([MASK] if self.settings.mask else []))

    @property
    def stacks(self) -> bool:
        """Whether all sounds become one length."""
        return self.settings.samples is not None or self.settings.frames is not None

    @property
    def window(self) -> int | None:
        """How many samples a model is fed at once; None where it takes any number."""
        settings = self.settings
        if settings.samples is not None or settings.frames is None or settings.spectrum is None:
            return settings.samples
        spectrum = settings.spectrum
        frame = 0 if spectrum.center else spectrum.frame_length - spectrum.hop_length
        return settings.frames * spectrum.hop_length + frame

    @classmethod
    def load(cls, directory: Path | None) -> AudioProcessor:
        """Read ``preprocessor_config.json`` from `directory`.

        Raises
        ------
        DataError
            When it is missing, or says what is not known here.
        """
        if directory is None:
            raise DataError(f"the model has no {FILE}, so that sounds cannot be fed to it")
        settings = _checked(_given(directory), directory / FILE)
        content = read_bytes(directory / FILE, FILE_BYTES)
        return cls(settings, hashlib.sha256(content).hexdigest())

    @classmethod
    def is_named_in(cls, source: Path) -> bool:
        """Whether a file says at which rate sounds are fed."""
        there = (source / FILE).is_file() or (source / WHOLE).is_file()
        return there and "sampling_rate" in _given(source)

    @classmethod
    def check_files(cls, source: Path) -> None:
        """See that its file is there, or transformers 5's, and can be followed."""
        _checked(_given(source), source / FILE)

    @classmethod
    def copy_files(cls, source: Path, folder: Path) -> None:
        """Take what a checkpoint says of its sounds out of the file that it stands in."""
        cls.check_files(source)
        folder.mkdir(parents=True)
        _write(_given(source), folder / FILE)

    @classmethod
    def check_description(cls, settings: Mapping[str, Any]) -> None:
        """Check what a recipe says of a graph's sounds."""
        read_settings(settings, strict=True)

    @classmethod
    def describe(
        cls,
        settings: Mapping[str, Any] | None,
        source: Path,
        inputs: Sequence[TensorSpec],
        folder: Path,
    ) -> None:
        """Write its file for a graph: from what a recipe says, or what lies beside the graph.

        The graph itself says how its input is called and laid out.
        """
        if settings is not None:
            cls.check_description(settings)
        others = [one.name for one in inputs[1:] if one.name != MASK]
        if not inputs or others or not 2 <= len(inputs[0].shape) <= 4:
            named = ", ".join(one.name for one in inputs)
            raise DataError(
                f"the graph takes {named}; sounds are fed to one input: samples, or frames of "
                f"numbers (and {MASK})"
            )
        if settings is None and not (source / FILE).is_file():
            raise DataError(
                "nobody says how sounds are fed to this graph; describe it in the recipe "
                "(preprocessor: {sampling_rate: …, features: mfcc, …}), or put its "
                f"{FILE} beside it",
                file=source,
            )
        found = dict(_given(source) if settings is None else settings)
        spec = inputs[0]
        found["model_input_names"] = [spec.name]
        found.setdefault("return_attention_mask", len(inputs) > 1)
        made = read_settings(found)
        more = len(spec.shape) == (4 if made.spectrum else 3)
        last = more and spec.shape[-1] == 1 != spec.shape[1]
        if not found.setdefault("channel", more and not last):
            found.setdefault("channel_last", last)
        if made.spectrum and "layout" not in found and not made.bins_first:
            rows, columns = (spec.shape[:-1] if last else spec.shape)[-2:]
            if rows == made.spectrum.width != columns:
                found["layout"] = "bins_first"
        if made.spectrum is None and made.samples is None and isinstance(spec.shape[-1], int):
            found["duration"] = spec.shape[-1] / made.sampling_rate
        made = read_settings(found)
        silence = Waveform(np.zeros(made.samples or made.sampling_rate, np.float32),
                           made.sampling_rate)  # fmt: skip
        shape = cls(made, "").values(silence).shape
        wanted = spec.shape[1:]
        wrong = any(isinstance(b, int) and a != b for a, b in zip(shape, wanted, strict=False))
        if len(shape) != len(wanted) or wrong:
            raise DataError(
                f"a sound becomes {' × '.join(map(str, shape))}, and the graph takes "
                f"{' × '.join(map(str, wanted))}; mend duration, max_frames, layout or the bands "
                "of its preprocessor"
            )
        folder.mkdir(parents=True)
        _write(found, folder / FILE)

    def gives(self, name: str, dtype: type[np.generic]) -> bool:
        """Say whether it has such an input: its one of floats, and a mask."""
        kind = np.integer if name == MASK else np.floating
        return name in (*self.settings.inputs, MASK) and issubclass(dtype, kind)

    def axes(self, feed: Mapping[str, Array]) -> dict[str, dict[int, str]]:
        """Name the batch's axis, and that of the time where it is open."""
        found = {name: {0: "batch"} for name in feed}
        if not self.stacks:
            for name, value in feed.items():
                found[name][value.ndim + (-1 if name == MASK else self._time)] = "length"
        return found

    @property
    def _time(self) -> int:
        """The axis of time, counted from the last."""
        whole = self.settings.spectrum is None or self.settings.bins_first
        return (-1 if whole else -2) - self.settings.channel_last

    def samples(self, sound: Sound) -> Samples:
        """Read a sound as one channel at the model's rate, float32 (samples,), whole.

        Raises
        ------
        DataError
            When it cannot be read.
        """
        key = _state(sound) if isinstance(sound, Path) else None
        kept = self._last.get(key) if key else None
        if kept is not None:
            return kept
        found = read_sound(sound)
        samples = resampled(found.samples, found.rate, self.settings.sampling_rate)
        if key is not None:
            self._last.clear()  # one is kept: a recording is asked for window after window
            self._last[key] = samples
        return samples

    def features(self, samples: Samples) -> Array:
        """Give samples at the model's rate as it is fed them, float32, without a batch axis."""
        settings = self.settings
        values = np.asarray(samples, np.float32)[: settings.samples]
        if settings.scale != 1:
            values = values * np.float32(settings.scale)
        if settings.per_sound:
            values = (values - values.mean()) / np.sqrt(values.var() + SMALLEST)
        if settings.samples is not None and len(values) < settings.samples:
            fill = settings.padding_value if settings.spectrum is None else 0.0
            room = (0, settings.samples - len(values))
            values = np.pad(values, room, constant_values=fill)
        spectrum = settings.spectrum
        made = values if spectrum is None else self._frames(values, spectrum)
        made = np.ascontiguousarray(made, np.float32)
        if settings.channel_last:
            return made[..., None]
        return made[None] if settings.channel else made

    def _frames(self, values: Array, spectrum: Spectrum) -> Array:
        """Give the frames of what is fed at once, (frames, width) or (width, frames)."""
        settings = self.settings
        made = spectrum.of(values, settings.frames)
        if settings.frames is not None and len(made) < settings.frames:
            fill = ((0, settings.frames - len(made)), (0, 0))
            made = np.pad(made, fill, constant_values=settings.padding_value)
        made = (made - settings.mean) / settings.std
        return made.T if settings.bins_first else made

    def values(self, sound: Sound, start: float = 0.0) -> Array:
        """Give a sound from a second on as the model is fed it, float32, without a batch axis."""
        state = _state(sound) if isinstance(sound, Path) else None
        key = None if state is None else (*state, start)
        kept = self._kept.get(key) if key else None
        if kept is not None:
            return kept
        made = self.features(self.samples(sound)[round(start * self.settings.sampling_rate) :])
        if key is not None and made.nbytes <= self._room[0]:
            self._room[0] -= made.nbytes
            self._kept[key] = made
        return made

    def feed(self, sound: Sound, start: float = 0.0) -> Mapping[str, Array]:
        """Give a row's input, which is made whenever it is asked for.

        So the memory does not grow with the number of sounds.
        """
        return AudioFeed(self, sound, start)

    def cost(self, sound: Sound) -> int:
        """Give what a sound costs to run: frames of 10 ms of what is fed."""
        window = self.window
        seconds = sound_seconds(sound) if window is None else window / self.settings.sampling_rate
        return max(1, round(seconds * 100))

    def batch(self, feeds: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Array]:
        """Put sounds together, shorter ones padded at their end.

        Raises
        ------
        DataError
            When the model wants another input.
        """
        (own,) = self.settings.inputs
        made: dict[str, Array] = {}
        for name in names:
            if name not in (own, MASK):
                raise DataError(f"the model wants an input {name!r}; sounds give {own}")
        arrays = [feed[own] for feed in feeds]
        lengths = np.array([one.shape[self._time] for one in arrays])
        for name in names:
            if name == MASK:
                inside = np.arange(lengths.max()) < lengths[:, None]
                made[name] = inside.astype(np.int64)
                continue
            made[name] = np.stack([self._padded(one, lengths.max()) for one in arrays])
        return made

    def _padded(self, values: Array, length: int) -> Array:
        room = [(0, 0)] * values.ndim
        room[self._time] = (0, length - values.shape[self._time])
        return np.pad(values, room, constant_values=self.settings.padding_value)


class AudioFeed(Mapping[str, Array]):
    """The input of one sound, made of it whenever it is asked for."""

    def __init__(self, processor: AudioProcessor, sound: Sound, start: float) -> None:
        self._processor, self._sound, self._start = processor, sound, start

    def __getitem__(self, name: str) -> Array:
        if name not in self._processor.settings.inputs:
            raise KeyError(name)
        return self._processor.values(self._sound, self._start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._processor.settings.inputs)

    def __len__(self) -> int:
        return len(self._processor.settings.inputs)


def _state(file: Path) -> tuple[Path, int, int] | None:
    """Give what changes when a file does; None where there is none."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None  # whoever reads it says so
    return file, status.st_mtime_ns, status.st_size


def _given(folder: Path) -> Json:
    """Read what a folder says of its sounds."""
    file, whole = folder / FILE, folder / WHOLE
    if not file.is_file() and whole.is_file():
        found = read_json(whole, FILE_BYTES)
        inner = found.get("feature_extractor") if isinstance(found, dict) else None
        if isinstance(inner, dict):
            return inner
    if not file.is_file():
        raise DataError(
            f"{FILE} is missing, which says at which rate and with which spectrum the model was "
            "trained; under others it answers, and worse. Put it there "
            "(AutoFeatureExtractor.from_pretrained(…).save_pretrained(directory))",
            file=folder,
        )
    given = read_json(file, FILE_BYTES)
    if not isinstance(given, dict):
        raise DataError("must be a JSON object", file=file)
    return given


def _checked(given: Json, file: Path) -> AudioSettings:
    try:
        return read_settings(given)
    except DataError as error:
        raise error if error.file else DataError(error.message, file=file) from None


def _write(given: Mapping[str, Any], file: Path) -> None:
    text = json.dumps(given, indent=2, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")
