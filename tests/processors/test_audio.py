"""Sounds become the arrays that transformers' and torchaudio's own front ends make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from edgecompress.conformance import check_processor
from edgecompress.errors import DataError
from edgecompress.processors.audio import AudioProcessor
from edgecompress.processors.audio_settings import read_settings
from edgecompress.processors.sounds import Waveform, resampled
from edgecompress.values import TensorSpec

RATE = 16000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    chirp = np.sin(2 * np.pi * (200 + 900 * times) * times) * np.exp(-times)
    return (0.3 * chirp + 0.02 * random.normal(size=len(times)) + 0.01).astype(np.float32)


SOUNDS = (sound(0.4), sound(1.7, 1), np.zeros(4000, np.float32))


@pytest.mark.parametrize(
    ("name", "fields", "tolerance"),
    [
        ("Whisper", {}, 2e-4),
        ("Whisper", {"feature_size": 128, "chunk_length": 2}, 2e-4),
        ("AST", {"max_length": 100}, 2e-4),
        ("AST", {"num_mel_bins": 64, "do_normalize": False, "max_length": 60}, 2e-4),
        ("Wav2Vec2", {}, 1e-5),
        ("Wav2Vec2", {"do_normalize": False}, 0),
    ],
)
def test_arrays_are_those_of_transformers(
    tmp_path: Path, name: str, fields: dict[str, Any], tolerance: float
) -> None:
    theirs = getattr(transformers, f"{name}FeatureExtractor")(**fields)
    theirs.save_pretrained(tmp_path)
    ours = AudioProcessor.load(tmp_path)
    for samples in SOUNDS:
        made = theirs(samples, sampling_rate=RATE, return_tensors="np")
        expected = made[theirs.model_input_names[0]][0]
        found = ours.values(Waveform(samples, RATE))
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() <= tolerance
        assert ours.input_names[0] == theirs.model_input_names[0]


MEL = {"sampling_rate": RATE, "features": "mel", "n_fft": 400, "hop_length": 200, "n_mels": 40,
       "mel_scale": "htk", "log": "none", "layout": "bins_first"}  # fmt: skip
CEPSTRA = {**MEL, "features": "mfcc", "n_mfcc": 20, "log": "db", "log_range": 80}
SLANEY = {"mel_scale": "slaney", "mel_norm": True, "f_min": 20.0, "f_max": 4000.0}


# Described front ends, ours and torchaudio's, and what it makes of them (make_torchaudio.py).
FRONT_ENDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "htk": (MEL, {"n_fft": 400, "n_mels": 40}),
    "slaney": ({**MEL, **SLANEY}, {"n_fft": 400, "n_mels": 40, "mel_scale": "slaney",
                                   "norm": "slaney", "f_min": 20, "f_max": 4000}),
    "window": ({**MEL, "n_fft": 512, "win_length": 400, "power": 1, "pad_mode": "constant"},
               {"n_fft": 512, "win_length": 400, "hop_length": 200, "n_mels": 40, "power": 1,
                "pad_mode": "constant"}),
    "hamming": ({**MEL, "center": False, "window": "hamming"},
                {"n_fft": 400, "n_mels": 40, "center": False, "window_fn": "hamming"}),
    "cepstra": (CEPSTRA, {"melkwargs": {"n_fft": 400, "n_mels": 40}}),
    "natural": ({**CEPSTRA, "log": "natural", "log_offset": 1e-6, "log_floor": 0, "log_range": 0,
                 "dct_norm": False},
                {"melkwargs": {"n_fft": 400, "n_mels": 40}, "log_mels": True, "norm": None}),
}  # fmt: skip
RATES = ((44100, 16000), (8000, 16000), (22050, 16000), (16000, 11025))
SHORT_SOUNDS = (sound(0.4), np.zeros(4000, np.float32))


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=2000).astype(np.float32)


@pytest.fixture(scope="module")
def theirs() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name("torchaudio.npz")) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_arrays_are_those_of_torchaudio(name: str, theirs: dict[str, np.ndarray]) -> None:
    processor = AudioProcessor(read_settings(FRONT_ENDS[name][0], strict=True), "")
    for number, samples in enumerate(SHORT_SOUNDS):
        expected = theirs[f"{name}-{number}"]
        found = processor.features(samples)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("rates", RATES)
def test_other_rates_are_those_of_torchaudio(
    rates: tuple[int, int], theirs: dict[str, np.ndarray]
) -> None:
    expected = theirs["{}-{}".format(*rates)]
    found = resampled(noise(), *rates)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("rates", [(44100, 16000), (8000, 16000), (16001, 16000)])
def test_a_tone_stays_a_tone_and_what_is_too_high_goes(rates: tuple[int, int]) -> None:
    old, new = rates
    times = np.arange(old) / old
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    found = resampled(tone, old, new)
    expected = np.sin(2 * np.pi * 440 * np.arange(new) / new)
    assert found.shape == (new,)
    assert np.abs(found - expected)[100:-100].max() < 2e-3
    if old > 2 * new:
        high = np.sin(2 * np.pi * 12000 * times).astype(np.float32)
        assert np.abs(resampled(high, old, new))[100:-100].max() < 2e-3


def described(**fields: Any) -> AudioProcessor:
    plain = {"sampling_rate": RATE, "features": "waveform", **fields}
    return AudioProcessor(read_settings(plain, strict=True), "")


def test_shorter_sounds_are_lengthened_and_longer_ones_cut() -> None:
    made = described(duration=0.5)
    for seconds in (0.2, 0.5, 0.9):
        values = sound(seconds)
        found = made.features(values)
        kept = min(len(values), 8000)
        assert len(found) == 8000 and np.array_equal(found[:kept], values[:kept])
        assert not found[kept:].any()


def test_the_contract() -> None:
    free = described(return_attention_mask=True)
    feeds = [free.feed(Waveform(one, RATE)) for one in SOUNDS]
    check_processor(free, feeds, ["input_values", "attention_mask"])
    frames = AudioProcessor(read_settings(CEPSTRA), "")
    check_processor(frames, [frames.feed(Waveform(one, RATE)) for one in SOUNDS], ["input_values"])
    assert not free.stacks and free.axes(free.batch(feeds, ["input_values"])) == {
        "input_values": {0: "batch", 1: "length"}
    }


def graph(*shape: int | str) -> list[TensorSpec]:
    return [TensorSpec("mfcc", "float32", shape)]


def test_a_graph_says_how_its_input_is_laid_out(tmp_path: Path) -> None:
    first = {key: one for key, one in CEPSTRA.items() if key != "layout"} | {"duration": 1.0}
    for number, (shape, expected) in enumerate((
        (("batch", 81, 20), (81, 20)), (("batch", 20, 81), (20, 81)), ((1, 1, 81, 20), (1, 81, 20)),
        (("batch", 81, 20, 1), (81, 20, 1)), (("batch", 20, 81, 1), (20, 81, 1)),
    )):  # fmt: skip
        place = tmp_path / str(number)
        AudioProcessor.describe(first, tmp_path, graph(*shape), place)
        made = AudioProcessor.load(place)
        assert made.values(Waveform(SOUNDS[0], RATE)).shape == expected
        assert made.input_names == ("mfcc",)
    waveform = {"sampling_rate": RATE, "features": "waveform"}
    AudioProcessor.describe(waveform, tmp_path, graph("batch", 8000), tmp_path / "waveform")
    assert AudioProcessor.load(tmp_path / "waveform").window == 8000


@pytest.mark.parametrize(
    ("given", "shape", "said"),
    [
        (None, ("batch", 81, 20), "nobody says how sounds are fed to this graph"),
        ({**CEPSTRA, "duration": 2.0}, ("batch", 20, 81), r"becomes 20 × 161, and .* 20 × 81"),
        (CEPSTRA, ("batch", 3, 2, 2, 2), "fed to one input"),
        ({**CEPSTRA, "n_fft": "big"}, ("batch", 20, 81), "n_fft must be a whole number"),
        ({**CEPSTRA, "n_mel": 3}, ("batch", 20, 81), "no key 'n_mel'; did you mean 'n_mels'"),
        ({"features": "mel"}, ("batch", 20, 81), "sampling_rate is missing; say with what"),
        ({**CEPSTRA, "mel_scale": None}, ("batch", 20, 81), "mel_scale is missing"),
        ({**CEPSTRA, "log": "ln"}, ("batch", 20, 81), "log must be one of none, natural"),
        ({**CEPSTRA, "mean": 0, "std": 0}, ("batch", 20, 81), "std must not be 0"),
        ({**CEPSTRA, "mean": 0}, ("batch", 20, 81), "mean and std stand together"),
        ({**CEPSTRA, "f_min": 9000}, ("batch", 20, 81), "f_min must be a number from 0 to 8000"),
        ({**CEPSTRA, "center": 1}, ("batch", 20, 81), "center must be true or false"),
        ({**CEPSTRA, "stream": {"strid": 1}}, ("batch", 20, 81), "stream must have keys among"),
        ({**CEPSTRA, "duration": 0}, ("batch", 20, 81), "duration must be a number from 0.001"),
    ],
)
def test_a_wrong_description_gets_one_sentence(
    tmp_path: Path, given: Any, shape: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        AudioProcessor.describe(given, tmp_path, graph(*shape), tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "preprocessor_config.json is missing, which says at which rate"),
        ({"feature_extractor_type": "ClapFeatureExtractor"}, "'ClapFeatureExtractor' is not known"),
        ([], "must be a JSON object"),
    ],
)
def test_a_folder_without_a_front_end_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        AudioProcessor.copy_files(tmp_path, tmp_path / "made")


def test_the_front_end_in_a_whole_processors_file_is_found(tmp_path: Path) -> None:
    whole = {"feature_extractor": {"feature_extractor_type": "WhisperFeatureExtractor"}}
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    AudioProcessor.copy_files(tmp_path, tmp_path / "made")
    made = AudioProcessor.load(tmp_path / "made")
    assert made.window == 480000 and made.values(Waveform(SOUNDS[0], RATE)).shape == (80, 3000)
