"""Small sounds of three kinds, and a graph that tells them apart by its spectrum."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgecompress.processors.sounds import Waveform
from edgecompress.values import Example

RATE = 8000
SECONDS = 0.5
TONES = ("high", "low", "noise")
HERTZ = {"high": 2800, "low": 400}
FRAMES, BANDS = 51, 8
FRONT_END: dict[str, Any] = {
    "sampling_rate": RATE, "duration": SECONDS, "features": "mel", "n_fft": 256, "hop_length": 80,
    "n_mels": BANDS, "mel_scale": "htk", "log": "db", "mean": -12, "std": 20,
}  # fmt: skip


def tone(label: str, random: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """Give float32 (samples,): a tone of about its pitch in noise, or noise alone."""
    count = round(seconds * RATE)
    times = np.arange(count) / RATE
    made = random.normal(0, 0.01, count)
    if label in HERTZ:
        pitch = HERTZ[label] * random.uniform(0.9, 1.1)
        made += random.uniform(0.2, 0.6) * np.sin(2 * np.pi * pitch * times)
    return made.astype(np.float32)


def write_wav(file: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Write 16 bits; each column is a channel."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file


def sounds_of_tones(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Give so many examples of each kind, as waveforms."""
    random = np.random.default_rng(seed)
    return tuple(
        Example({"audio": Waveform(tone(label, random), RATE)}, label)
        for label in TONES
        for _ in range(count)
    )


def write_folder(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Write sounds into a folder for each kind."""
    random = np.random.default_rng(seed)
    for label in TONES:
        for number in range(count):
            write_wav(folder / label / f"{number}.wav", tone(label, random))
    return folder


def write_graph(file: Path, frames: int = FRAMES) -> Path:
    """Write convolutions whose answers are how high and low a spectrum is."""
    first = np.zeros((3, 1, 3, BANDS), np.float32)
    first[0, 0, :, 5:] = 0.3
    first[1, 0, :, :3] = 0.3
    last = 4 * np.eye(3, dtype=np.float32)
    weights = {
        "first": first, "first_bias": np.array([0.2, 0.2, 0.0], np.float32),
        "second": np.eye(3, dtype=np.float32)[..., None, None],
        "second_bias": np.zeros(3, np.float32),
        "last": last, "last_bias": np.array([0, 0, 6], np.float32),
        "one": np.array([1], np.int64),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["mel", "one"], ["image"]),
        node("Conv", ["image", "first", "first_bias"], ["a"], "stem", kernel_shape=[3, BANDS]),
        node("Relu", ["a"], ["b"], "kept"),
        node("Conv", ["b", "second", "second_bias"], ["c"], "mixed", kernel_shape=[1, 1]),
        node("Relu", ["c"], ["d"], "again"),
        node("GlobalAveragePool", ["d"], ["e"], "pool"),
        node("Flatten", ["e"], ["f"], "flat"),
        node("Gemm", ["f", "last", "last_bias"], ["scores"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["batch", frames, BANDS])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(TONES)])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file
