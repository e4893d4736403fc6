"""Sounds that a person hands over, read as one channel of floats: files or their bytes.

WAV is read here (integers of 8 to 32 bits, floats of 32 and 64); FLAC, Ogg and what else libsndfile
knows by `soundfile`, an extra.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError, MissingExtraError
from edgecompress.reading import PARSER_FAULTS, open_regular, reading

Samples: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Waveform:
    """A sound in memory: float32 (samples,), one channel, and how many of them a second has."""

    samples: Samples
    rate: int


Sound: TypeAlias = "Path | bytes | Waveform"
"""A file, what one holds, or a waveform."""

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MAX_SAMPLES = 100_000_000
"""Of a file, of all its channels together: 1 h 44 min at 16 kHz, and 400 MB of floats. A few
kilobytes of FLAC can claim more."""
RATES = (1_000, 768_000)  # per second
UNREADABLE = "not a sound that can be read"
NO_FORM = "it is none of WAV, FLAC, Ogg and MP3, or damaged"
TAPS = 16
"""Zero crossings of the sinc on either side, in `resampled`."""
ROLLOFF = 0.99  # what is kept of the band below half the lower rate

_FORMS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
"""How files begin that libsndfile is given; it knows many more, of which nobody asks us."""
_STREAMED = (0, 0xFFFFFFFF)  # what programs that cannot go back write for the size of the samples
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class _Wav:
    """What the head of a WAV file says, and where its samples are."""

    kind: int
    bits: int
    channels: int
    rate: int
    start: int
    frames: int
    promised: int


def read_sound(sound: Sound) -> Waveform:
    """Read a sound; several channels become their mean.

    Raises
    ------
    DataError
        When there is none, it is damaged, empty or too large; of a file with its name.
    MissingExtraError
        When its form needs soundfile, and that is not there.
    """
    if isinstance(sound, Waveform):
        return checked(sound)
    with _opened(sound) as stream:
        head = _wav_head(stream)
        if head is not None:
            return checked(Waveform(_wav_samples(stream, head), head.rate))
        with _soundfile(stream) as file:
            _check_size(file.frames, file.channels, file.samplerate)
            values = file.read(dtype="float32", always_2d=True)
            if len(values) < file.frames:
                raise ValueError(f"it stops after {len(values):,} of {file.frames:,} samples")
            return checked(Waveform(_mono(values), file.samplerate))


def sound_seconds(sound: Sound) -> float:
    """Read from the head of a file how long a sound is.

    Raises
    ------
    DataError
        As `read_sound`.
    """
    if isinstance(sound, Waveform):
        return len(checked(sound).samples) / sound.rate
    with _opened(sound) as stream:
        head = _wav_head(stream)
        if head is not None:
            return head.frames / head.rate
        with _soundfile(stream) as file:
            _check_size(file.frames, file.channels, file.samplerate)
            return float(file.frames / file.samplerate)


def check_sound(sound: Sound) -> Sound:
    """See that a sound can be read to its end; give it back.

    Raises
    ------
    DataError
        As `read_sound`.
    """
    read_sound(sound)
    return sound


def is_cut_off(file: Path) -> bool:
    """Say whether a WAV file holds fewer samples than its head says; they are read all the same."""
    with _opened(file) as stream:
        head = _wav_head(stream)
        return head is not None and head.frames < head.promised


def checked(sound: Waveform) -> Waveform:
    """Refuse a waveform that is none.

    Raises
    ------
    DataError
        Saying what it must be.
    """
    samples = np.asarray(sound.samples)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        shape = " × ".join(map(str, samples.shape))
        raise DataError(
            "a sound as an array must be floats from -1 to 1 along one axis (a channel), not "
            f"{samples.dtype} {shape}"
        )
    _check_size(len(samples), 1, sound.rate)
    if not np.isfinite(samples).all():
        raise DataError("the sound holds numbers that are not finite")
    return Waveform(samples.astype(np.float32, copy=False), sound.rate)


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """Give a sound another rate, by a sinc in a window of Hann's form.

    Parameters
    ----------
    samples : float32 (samples,)
    rate, wanted : int
        Samples a second, before and after.

    Returns
    -------
    float32 (ceil(samples · wanted / rate),)

    Source: J. O. Smith, «Digital Audio Resampling»; the arithmetic is that of
    `torchaudio.functional.resample` with `lowpass_filter_width` of `TAPS`.
    """
    if rate == wanted or not len(samples):
        return samples
    divisor = math.gcd(rate, wanted)
    old, new = rate // divisor, wanted // divisor
    weights, first = _phases(old, new)
    taps = weights.shape[1]
    count = -(-len(samples) * new // old)
    padded = np.pad(samples, (taps, taps))
    made = np.empty(count, np.float32)
    step = max(1, 4_000_000 // taps)  # so that few megabytes are gathered at a time
    for start in range(0, count, step):
        numbers = np.arange(start, min(start + step, count))
        rounds, phases = np.divmod(numbers, new)
        places = (rounds * old + first[phases] + taps)[:, None] + np.arange(taps)
        made[numbers] = np.einsum("nt,nt->n", padded[places], weights[phases])
    return made


@functools.lru_cache(maxsize=8)
def _phases(old: int, new: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the weights of each place between two samples, and the sample at which they begin."""
    base = min(old, new) * ROLLOFF
    width = math.ceil(TAPS * old / base)
    times = np.arange(new) * old / new  # in old samples
    first = np.floor(times).astype(np.int64) - width
    at = (first[:, None] + np.arange(2 * width + 2) - times[:, None]) / old * base
    inside = np.clip(at, -TAPS, TAPS)
    window = np.cos(inside * np.pi / TAPS / 2) ** 2
    return np.sinc(inside) * window * (base / old), first


@contextmanager
def _opened(sound: Path | bytes) -> Iterator[BinaryIO]:
    file = sound if isinstance(sound, Path) else Path("sound")
    try:
        with (
            reading(file, UNREADABLE, PARSER_FAULTS),
            open_regular(sound) if isinstance(sound, Path) else io.BytesIO(sound) as stream,
        ):
            yield stream
    except DataError as error:
        if isinstance(sound, Path):
            raise
        raise DataError(error.message) from None


def _check_size(frames: int, channels: int, rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f"the sound has {rate:,} samples a second; between {RATES[0]:,} and {RATES[1]:,} are "
            "read"
        )
    if channels < 1 or frames < 1:
        raise DataError("the sound is empty: it holds no sample")
    if frames * channels > MAX_SAMPLES:
        raise DataError(
            f"the sound has {frames * channels:,} samples, more than the {MAX_SAMPLES:,} that are "
            "read; cut it into parts"
        )


def _wav_head(stream: BinaryIO) -> _Wav | None:
    """Read the chunks of a WAV file up to its samples; None for another form, at its start."""
    first = stream.read(12)
    if not first:
        raise ValueError("it is empty")
    if first[:4] != b"RIFF" or first[8:12] != b"WAVE":
        stream.seek(0)
        return None
    fields = None
    while True:
        chunk = stream.read(8)
        if len(chunk) < 8:
            raise ValueError("it is a WAV file without samples, or cut off")
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            break
        start = stream.tell()
        if name == b"fmt ":
            fields = _wav_format(stream.read(min(size, 40)))
        stream.seek(start + size + size % 2)
    if fields is None:
        raise ValueError("it is a WAV file that does not say how its samples are written")
    kind, bits, channels, rate = fields
    start = stream.tell()
    there = stream.seek(0, io.SEEK_END) - start
    wanted = there if size in _STREAMED else size
    # Data sets hold files that were cut off; like other readers we take what is there.
    width = bits // 8 * channels
    frames = min(wanted, there) // width
    if wanted >= width and not frames:
        raise ValueError("it is cut off before its first sample")
    _check_size(frames, channels, rate)
    return _Wav(kind, bits, channels, rate, start, frames, wanted // width)


def _wav_format(content: bytes) -> tuple[int, int, int, int]:
    """Read kind, bits, channels and rate."""
    if len(content) < 16:
        raise ValueError("its head is cut off")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if kind == _EXTENSIBLE and len(content) >= 26:
        kind = struct.unpack("<H", content[24:26])[0]
    known = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
    if bits not in known.get(kind, ()):
        raise ValueError(
            f"it is a WAV file of the form {kind} with {bits} bits a sample; integers of 8, 16, 24 "
            "and 32 bits and floats of 32 and 64 are read"
        )
    if not channels:
        raise ValueError("it is a WAV file without a channel")
    return kind, bits, channels, rate


def _wav_samples(stream: BinaryIO, head: _Wav) -> Samples:
    stream.seek(head.start)
    count = head.frames * head.channels
    content = stream.read(count * head.bits // 8)
    if head.kind == _FLOAT:
        values: Samples = np.frombuffer(content, f"<f{head.bits // 8}", count).astype(np.float32)
    elif head.bits == 8:
        values = (np.frombuffer(content, np.uint8, count).astype(np.float32) - 128) / np.float32(
            128
        )
    elif head.bits == 24:
        parts = np.zeros((count, 4), np.uint8)
        parts[:, 1:] = np.frombuffer(content, np.uint8, count * 3).reshape(count, 3)
        values = parts.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        found = np.frombuffer(content, f"<i{head.bits // 8}", count)
        values = found.astype(np.float32) / np.float32(2 ** (head.bits - 1))
    return _mono(values.reshape(head.frames, head.channels))


def _mono(values: NDArray[np.float32]) -> Samples:
    return values[:, 0] if values.shape[1] == 1 else values.mean(axis=1, dtype=np.float32)


@contextmanager
def _soundfile(stream: BinaryIO) -> Iterator[Any]:
    first = stream.read(4)
    stream.seek(0)
    if not first.startswith(_FORMS):
        raise ValueError(NO_FORM)
    try:
        library = importlib.import_module("soundfile")
    except (ImportError, OSError):  # OSError: without libsndfile
        raise MissingExtraError("soundfile", "audio") from None
    try:
        with library.SoundFile(stream) as file:
            yield file
    except library.LibsndfileError:
        raise ValueError(NO_FORM) from None
