"""How tokens are chosen, and what becomes of their text while they come."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from edgecompress.generation.likelihoods import likelihoods
from edgecompress.generation.sampling import Sampling, _shares, choose
from edgecompress.generation.text import pieces_of_text
from edgecompress.targets.agent.arrays import likelihoods as on_a_board


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 0.5, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.4},
    ],
)
def test_shares_are_those_of_transformers(how: dict[str, float]) -> None:
    import torch
    from transformers import generation

    logits = np.random.default_rng(0).normal(0, 3, 50).astype(np.float32)
    before, scores = [3, 7, 7, 20], torch.from_numpy(logits)[None]
    steps = [
        ("repetition_penalty", generation.RepetitionPenaltyLogitsProcessor),
        ("temperature", generation.TemperatureLogitsWarper),
        ("top_k", generation.TopKLogitsWarper),
        ("top_p", generation.TopPLogitsWarper),
    ]
    for name, step in steps:
        if name in how:
            scores = step(how[name])(torch.tensor([before]), scores)
    expected = scores.softmax(-1)[0].numpy()
    sampling = Sampling(**how)  # type: ignore[arg-type]
    drawn = np.zeros(50)
    for seed in range(400):
        drawn[choose(logits, before, sampling, np.random.default_rng(seed))] += 1
    assert set(np.flatnonzero(drawn)) <= set(np.flatnonzero(expected))
    assert np.abs(drawn / 400 - expected).max() < 0.1
    if "repetition_penalty" not in how:
        found = _shares(logits / np.float32(how["temperature"]), sampling)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_likeliest_is_taken_without_temperature_and_never_what_is_suppressed() -> None:
    logits = np.array([0.0, 3.0, 2.9], np.float32)
    random = np.random.default_rng(0)
    assert choose(logits, [], Sampling(), random) == 1
    assert choose(logits, [1], Sampling(repetition_penalty=1.5), random) == 2
    assert choose(logits, [], Sampling(), random, suppressed=[1]) == 2
    assert choose(logits, [], Sampling(temperature=1.0, top_k=1), random) == 1


def _bytes() -> Tokenizer:
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def test_pieces_are_whole_characters_up_to_a_stop_string() -> None:
    asked = []

    def tokens(text: str):  # type: ignore[no-untyped-def]
        for byte in text.encode():
            asked.append(byte)
            yield byte

    pieces = list(pieces_of_text(_bytes(), tokens("ñaé"), ()))
    assert pieces == ["ñ", "a", "é"]
    asked.clear()
    pieces = list(pieces_of_text(_bytes(), tokens("one END two"), ("END", "\n")))
    assert "".join(pieces) == "one " and bytes(asked) == b"one END"
    assert "".join(pieces_of_text(_bytes(), tokens("an ENd"), ("END",))) == "an ENd"


def test_likelihoods_are_alike_here_and_on_a_board() -> None:
    random = np.random.default_rng(1)
    outputs, right = random.normal(0, 5, (130, 40)), random.integers(0, 40, 130)
    found = likelihoods(outputs, right, rows=16)
    exact = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    np.testing.assert_allclose(found[:, 0], exact[np.arange(130), right], atol=1e-5)
    assert (found[:, 1] == outputs.argmax(-1)).all()
    some = np.where(np.arange(130) % 3 == 0, -100, right)
    np.testing.assert_array_equal(on_a_board(outputs, some), found[some >= 0])
