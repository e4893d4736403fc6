"""Files of sounds are read in every form that people have, or refused in one sentence."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.errors import DataError, MissingExtraError
from edgecompress.processors import sounds
from edgecompress.processors.sounds import Waveform, read_sound, sound_seconds

RATE = 8000
TONE = (0.5 * np.sin(2 * np.pi * 300 * np.arange(1200) / RATE)).astype(np.float32)


def integers(bits: int) -> bytes:
    whole = np.round(TONE.astype(np.float64) * (2 ** (bits - 1) - 1)).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    return b"".join(int(one).to_bytes(bits // 8, "little", signed=True) for one in whole)


def wav(content: bytes, kind: int = 1, bits: int = 16, channels: int = 1, *, rate: int = RATE,
        size: int | None = None, before: bytes = b"") -> bytes:  # fmt: skip
    width = bits // 8 * channels
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    if kind == 0xFFFE:
        head += struct.pack("<HHIH", 22, bits, 0, 1) + bytes(14)
    size = len(content) if size is None else size
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + before
    chunks += b"data" + struct.pack("<I", size) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_of_any_width_are_the_same_sound(tmp_path: Path, bits: int) -> None:
    file = tmp_path / "tone.wav"
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(bits // 8)
        stream.setframerate(RATE)
        stream.writeframes(integers(bits))
    found = read_sound(file)
    assert found.rate == RATE and sound_seconds(file) == len(TONE) / RATE
    assert np.abs(found.samples - TONE).max() < 2.0 ** (2 - bits) + 1e-7
    extensible = wav(integers(bits), 0xFFFE, bits)
    assert np.array_equal(read_sound(extensible).samples, found.samples)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_are_read(bits: int) -> None:
    content = TONE.astype(f"<f{bits // 8}").tobytes()
    assert np.array_equal(read_sound(wav(content, 3, bits)).samples, TONE)


def test_channels_become_their_mean_and_odd_chunks_are_passed_over() -> None:
    both = np.stack([TONE, np.zeros_like(TONE)], axis=1).astype("<f4").tobytes()
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert np.allclose(read_sound(wav(both, 3, 32, 2, before=note)).samples, TONE / 2)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_what_a_program_wrote_that_could_not_go_back_is_read(size: int) -> None:
    assert len(read_sound(wav(integers(16), size=size)).samples) == len(TONE)


def test_of_what_was_cut_off_the_rest_is_read(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.wav", tmp_path / "cut.wav"
    whole.write_bytes(wav(integers(16)))
    cut.write_bytes(wav(integers(16))[:-101])
    assert len(read_sound(cut).samples) == len(TONE) - 51
    assert sounds.is_cut_off(cut) and not sounds.is_cut_off(whole)


def test_flac_is_the_same_sound(tmp_path: Path) -> None:
    library = pytest.importorskip("soundfile", reason="soundfile is not installed")
    file = tmp_path / "tone.flac"
    library.write(file, TONE, RATE)
    found = read_sound(file)
    assert found.rate == RATE and sound_seconds(file) == len(TONE) / RATE
    assert np.abs(found.samples - TONE).max() < 1e-4
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match="not a sound that can be read") as raised:
        read_sound(file)
    assert str(file) in str(raised.value)


def test_without_soundfile_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match=r"soundfile is needed.*audio"):
        read_sound(b"fLaC and so on")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (None, "there is no such file"),
        (b"RIFF", "none of WAV, FLAC, Ogg and MP3, or damaged"),
        (wav(integers(16))[:30], "head is cut off"),
        (wav(integers(16))[:45], "it is cut off before its first sample"),
        (wav(b""), "the sound is empty: it holds no sample"),
        (wav(integers(16), kind=7), "a WAV file of the form 7 with 16 bits a sample"),
        (wav(integers(16), channels=0), "without a channel"),
        (wav(integers(16), rate=3), "3 samples a second"),
        (wav(np.full(9, np.nan, "<f4").tobytes(), 3, 32), "not finite"),
        (b"RIFF\0\0\0\0WAVE", "without samples"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "does not say how its samples are written"),
    ],
)
def test_what_is_no_sound_gets_one_sentence(tmp_path: Path, content: Any, said: str) -> None:
    file = tmp_path / "a.wav"
    if content is not None:
        file.write_bytes(content)
    for read in (read_sound, sound_seconds):
        if read is sound_seconds and said == "not finite":
            continue
        with pytest.raises(DataError, match=said) as raised:
            read(file)
        assert "\n" not in str(raised.value) and str(file) in str(raised.value)


def test_a_sound_that_is_too_large_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MAX_SAMPLES", 1000)
    with pytest.raises(DataError, match="1,200 samples, more than the 1,000"):
        read_sound(wav(integers(16)))


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 2), np.float32), np.zeros(4, np.int16), np.zeros(0, np.float32)]
)
def test_an_array_that_is_no_channel_of_floats_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"a sound as an array must be|is empty"):
        read_sound(Waveform(samples, RATE))
