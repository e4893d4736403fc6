"""What ``preprocessor_config.json`` says of sounds, as transformers' feature extractors mean it.

A description without a class is a person's own, of a graph that transformers does not know: what
would change answers is asked for there and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.processors.described import check_keys, type_named
from edgecompress.processors.sounds import RATES
from edgecompress.processors.spectra import LOGS, SCALES, WINDOWS, Spectrum
from edgecompress.values import Json

FEATURES = ("waveform", "spectrum", "mel", "mfcc")
LONGEST = 3600.0  # seconds of what a model is fed at once
MOST = 2**16  # of samples of a frame, bands and coefficients
LARGEST = 1e30

TYPES: Mapping[str, Json] = {
    "Wav2Vec2": {"features": "waveform", "do_normalize": True},
    "AST": {
        "features": "mel", "n_fft": 512, "frame_length": 400, "hop_length": 160, "center": False,
        "periodic": False, "preemphasis": 0.97, "remove_dc_offset": True, "f_min": 20,
        "mel_scale": "kaldi", "mel_space": True, "log": "natural", "n_mels": 128,
        "log_floor": 1.192092955078125e-07, "max_frames": 1024, "mean": -4.2677393,
        "std": 4.5689974,
    },
    "Whisper": {
        "features": "mel", "n_fft": 400, "hop_length": 160, "n_mels": 80, "mel_scale": "slaney",
        "mel_norm": True, "log": "log10", "log_range": 8, "mean": -4, "std": 4,
        "layout": "bins_first", "chunk_length": 30, "f_max": 8000,
        "model_input_names": ["input_features"],
    },
}  # fmt: skip
"""The feature extractors of transformers, by the beginning of their classes' names. HuBERT, WavLM,
UniSpeech and others use that of Wav2Vec2."""
_THEIRS: Mapping[str, Mapping[str, str]] = {
    "AST": {"num_mel_bins": "n_mels", "max_length": "max_frames"},
    "Whisper": {"feature_size": "n_mels"},
}
"""What they call what a description of ours calls otherwise."""
_PLAIN: Json = {
    "sampling_rate": 16000, "window": "hann", "periodic": True, "center": True,
    "pad_mode": "reflect", "preemphasis": 0, "remove_dc_offset": False, "power": 2, "f_min": 0,
    "mel_norm": False, "mel_space": False, "log": "none", "log_offset": 0, "log_floor": 1e-10,
    "log_range": 0, "dct_norm": True, "do_normalize": False, "padding_value": 0, "scale": 1,
    "layout": "frames_first", "model_input_names": ["input_values"],
}  # fmt: skip
_OWN = (*_PLAIN, "features", "duration", "n_fft", "hop_length", "frame_length", "win_length",
        "n_mels", "mel_scale", "f_max", "n_mfcc", "mean", "std", "max_frames", "stream", "channel",
        "channel_last", "return_attention_mask")  # fmt: skip
"""What a person may say of a graph's sounds."""
_SWITCHES = ("periodic", "center", "remove_dc_offset", "mel_norm", "mel_space", "dct_norm",
             "do_normalize", "channel", "channel_last", "return_attention_mask")  # fmt: skip
_STREAM = {"stride": 0.1, "smoothing": 0.3, "threshold": 0.8, "refractory": 1.0, "background": ()}


@dataclass(frozen=True, slots=True)
class Stream:
    """How a recording that is longer than a window is listened to.

    Attributes
    ----------
    stride : float
        Seconds from one window to the next.
    smoothing : float
        Seconds over which the windows' probabilities are averaged.
    threshold : float
        The averaged probability from which on a word counts as heard.
    refractory : float
        Seconds after a word in which none is heard.
    background : tuple of str
        Classes that are no words: silence, all that is unknown.
    """

    stride: float
    smoothing: float
    threshold: float
    refractory: float
    background: tuple[str, ...]


@dataclass(frozen=True)
class AudioSettings:
    """How sounds become arrays.

    Attributes
    ----------
    sampling_rate : int
        Sounds of another rate are resampled.
    spectrum : Spectrum or None
        None: the samples themselves are fed.
    samples : int or None
        How many a model is fed: longer sounds are cut, shorter ones lengthened with silence. None:
        as long as the sound is.
    frames : int or None
        How many frames a model is fed: longer ones are cut, shorter ones padded.
    per_sound : bool
        Whether each sound gets mean 0 and variance 1 before it is lengthened.
    mean, std : float64 (1,) or (width,)
        What is taken away from each frame, and what it is divided by then.
    padding_value : float
        What frames, or samples of unlike sounds in one batch, are padded with.
    scale : float
        What samples from -1 to 1 are multiplied by: 32768 for models trained on integers.
    bins_first : bool
        (bins, frames) instead of (frames, bins).
    channel : bool
        Whether a graph wants one axis more, of length 1, behind the batch's.
    channel_last : bool
        Or behind all others, as TensorFlow's convolutions do.
    mask : bool
        Whether models are told what is no padding (``attention_mask``).
    inputs : tuple of str
        The graph's input.
    stream : Stream or None
        None: of longer sounds the beginning counts.
    """

    sampling_rate: int
    spectrum: Spectrum | None
    samples: int | None
    frames: int | None
    per_sound: bool
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    padding_value: float
    scale: float
    bins_first: bool
    channel: bool
    channel_last: bool
    mask: bool
    inputs: tuple[str, ...]
    stream: Stream | None


def read_settings(given: Any, *, strict: bool = False) -> AudioSettings:
    """Read what a file or a recipe says.

    Parameters
    ----------
    given : object
        JSON.
    strict : bool
        Whether a key that nobody reads is an error: in a recipe, and not in a file.

    Raises
    ------
    DataError
        At the first key that is wrong or missing; it names no file.
    """
    if not isinstance(given, Mapping):
        raise DataError("must be a JSON object")
    kind = type_named(given, ("feature_extractor_type",), "FeatureExtractor", TYPES)
    called = _THEIRS.get(kind or "", {})
    said = {called.get(key, key): value for key, value in given.items() if value is not None}
    if strict:
        check_keys(said, _OWN)
    if kind is None:
        _check_own(said)
    found = {**_PLAIN, **TYPES.get(kind or "", {}), **said}
    for key in _SWITCHES:
        if not isinstance(found.get(key, False), bool):
            raise DataError(f"{key} must be true or false")
    rate = _whole(found, "sampling_rate", *RATES)
    waveform = _one_of(found, "features", FEATURES) == "waveform"
    spectrum = None if waveform else _spectrum(found, rate)
    width = 1 if spectrum is None else spectrum.width
    normalized = kind != "AST" or found["do_normalize"] or "do_normalize" not in said
    mean, std = (
        _numbers(found, key, width) if key in found and normalized else np.full(1, usual)
        for key, usual in (("mean", 0.0), ("std", 1.0))
    )
    if not std.all():
        raise DataError("std must not be 0")
    seconds = found.get("duration", found.get("chunk_length"))
    samples = None
    if seconds is not None:
        samples = round(_number({"duration": seconds}, "duration", 0.001, LONGEST) * rate)
    if kind == "Whisper" and samples is not None and spectrum is not None:
        found["max_frames"] = samples // spectrum.hop_length  # it leaves the last frame out
    names = found["model_input_names"]
    if not isinstance(names, list | tuple) or not names or not isinstance(names[0], str):
        raise DataError("model_input_names must be a list of one name")
    return AudioSettings(
        rate,
        spectrum,
        samples,
        _whole(found, "max_frames", 1, 2**20) if "max_frames" in found and spectrum else None,
        found["do_normalize"] and spectrum is None,
        mean,
        # What the paper of AST calls normalized has a deviation of a half.
        std * 2 if kind == "AST" and normalized else std,
        _number(found, "padding_value"),
        _number(found, "scale"),
        _one_of(found, "layout", ("frames_first", "bins_first")) == "bins_first",
        found.get("channel", False),
        found.get("channel_last", False),
        found.get("return_attention_mask", False),
        (names[0],),
        _stream(found["stream"]) if "stream" in found else None,
    )


def _check_own(said: Mapping[str, Any]) -> None:
    """Refuse a description without a class that leaves to chance what changes answers."""
    needed = ["sampling_rate", "features"]
    kind = said.get("features")
    needed += ["n_fft", "hop_length"] if kind != "waveform" else []
    needed += ["n_mels", "mel_scale", "log"] if kind in ("mel", "mfcc") else []
    needed += ["n_mfcc"] if kind == "mfcc" else []
    missing = next((key for key in needed if key not in said), None)
    if missing is not None:
        raise DataError(
            f"{missing} is missing; say with what the model was trained (sounds that are made into "
            "arrays otherwise are answered, and worse)"
        )
    if ("mean" in said) != ("std" in said):
        raise DataError("mean and std stand together; give both or none")


def _spectrum(found: Mapping[str, Any], rate: int) -> Spectrum:
    cepstra = found["features"] == "mfcc"
    banded = cepstra or found["features"] == "mel"
    n_fft = _whole(found, "n_fft", 2, MOST)
    frame = _whole({"frame_length": n_fft, **found}, "frame_length", 2, n_fft)
    bands = _whole(found, "n_mels", 1, MOST // 8) if banded else 0
    half = rate / 2
    f_max = _number({"f_max": half, **found}, "f_max", 0, LARGEST)
    f_min = _number(found, "f_min", 0, half)
    if banded and not f_min < f_max:
        raise DataError("f_min must lie below f_max, which is half the rate where nobody says it")
    return Spectrum(
        rate,
        n_fft,
        _whole(found, "hop_length", 1, MOST),
        frame,
        _whole({"win_length": frame, **found}, "win_length", 1, frame),
        _one_of(found, "window", WINDOWS),
        found["periodic"],
        found["center"],
        _pad_mode(found),
        _number(found, "preemphasis", 0, 1),
        found["remove_dc_offset"],
        _whole(found, "power", 1, 2),
        bands,
        f_min,
        f_max,
        _one_of(found, "mel_scale", SCALES) if banded else "htk",
        found["mel_norm"],
        found["mel_space"],
        _one_of(found, "log", LOGS),
        _number(found, "log_offset", 0, LARGEST),
        _number(found, "log_floor", 0, LARGEST),
        _number(found, "log_range", 0, LARGEST),
        _whole(found, "n_mfcc", 1, bands) if cepstra else 0,
        found["dct_norm"],
    )


def _pad_mode(found: Mapping[str, Any]) -> Literal["reflect", "constant"]:
    return "reflect" if _one_of(found, "pad_mode", ("reflect", "constant")) == "reflect" else (
        "constant"
    )  # fmt: skip


def _stream(given: Any) -> Stream:
    if not isinstance(given, Mapping) or given.keys() - _STREAM.keys():
        raise DataError(f"stream must have keys among {', '.join(_STREAM)}")
    found = {**_STREAM, **given}
    names = found["background"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DataError("stream.background must be a list of classes that are no words")
    stride, smoothing, refractory = (
        _number(found, key, least, LONGEST, "stream.")
        for key, least in (("stride", 0.001), ("smoothing", 0), ("refractory", 0))
    )
    return Stream(
        stride, smoothing, _number(found, "threshold", 0, 1, "stream."), refractory, tuple(names)
    )


def _one_of(found: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
    value = found.get(key)
    if not isinstance(value, str) or value not in known:
        raise DataError(f"{key} must be one of {', '.join(known)}")
    return value


def _whole(found: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DataError(f"{key} must be a whole number from {least} to {most}")
    return value


def _number(
    found: Mapping[str, Any], key: str, least: float = -LARGEST, most: float = LARGEST,
    place: str = "",
) -> float:  # fmt: skip
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        bounds = "" if most >= LARGEST else f" from {least:g} to {most:g}"
        raise DataError(f"{place}{key} must be a number{bounds}")
    return float(value)


def _numbers(found: Mapping[str, Any], key: str, width: int) -> NDArray[np.float64]:
    value = found[key]
    each = value if isinstance(value, list | tuple) else [value]
    if len(each) not in (1, width):
        raise DataError(f"{key} must be a number, or {width} of them: one for each band")
    return np.array([_number({key: one}, key) for one in each])
