"""What models are fed: lengths as in the data, and inputs for graphs of which nothing is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgecompress.errors import DataError
from edgecompress.targets.graph import signature
from edgecompress.targets.inputs import (
    encoded_feeds,
    feeds_from_signature,
    question,
    spread,
    timing_feeds,
)
from edgecompress.values import Candidate, Example, OnnxModel, TensorSpec, TorchModel

WORDS = ("muhammadu", "buhari", "abuja", "na")
SENTENCES = tuple(Example(words=WORDS[:count] * 2, tags=("O",) * 2 * count) for count in (1, 2, 4))


@given(st.lists(st.integers(0, 500), max_size=200), st.integers(1, 64))
def test_spread_takes_distinct_inputs(lengths: list[int], count: int) -> None:
    chosen = spread(lengths, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(lengths))


@given(st.integers(100, 1000))
def test_any_third_of_a_spread_is_like_the_whole(size: int) -> None:
    lengths = list(np.random.default_rng(size).integers(1, 100, size))
    chosen = np.array([lengths[index] for index in spread(lengths, 90)])
    means = chosen.reshape(3, 30).mean(axis=1)
    assert np.ptp(means) < 0.15 * np.mean(lengths)
    assert abs(chosen.mean() - np.mean(lengths)) < 0.05 * np.mean(lengths)


def test_the_first_input_is_of_median_length() -> None:
    assert spread(list(range(65)), 64)[0] == 33


def test_a_question_has_no_answer() -> None:
    assert question(SENTENCES[0]).tags == ()
    assert question(Example(text="a", label="b")).label == ""


def test_each_row_is_a_batch_of_one(tagger: Candidate) -> None:
    feeds, encoded, _ = encoded_feeds(tagger, SENTENCES)
    assert set(feeds.arrays) == {"input_ids", "attention_mask"}
    assert all(row.shape[0] == 1 for row in feeds.arrays["input_ids"])
    assert [row.shape[1] for row in feeds.arrays["input_ids"]] == encoded.lengths.tolist()


def test_candidates_share_inputs_and_items(tagger: Candidate) -> None:
    blank = Example(words=(" ",), tags=("O",))
    feeds, texts = timing_feeds([tagger, tagger], (*SENTENCES, blank), 10)
    assert feeds[0].items.tolist() == feeds[1].items.tolist()
    assert len(texts) == 3
    assert set(feeds[0].items.tolist()) == {0, 1, 2}


def test_blank_data_is_refused(tagger: Candidate) -> None:
    with pytest.raises(DataError, match="blank"):
        timing_feeds([tagger], [Example(words=(" ",), tags=("O",))], 10)


def write(path: Path, inputs: list[onnx.ValueInfoProto]) -> OnnxModel:
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", [inputs[0].name], ["y"])
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, [out])), str(path))
    return OnnxModel(path)


def test_a_signature_gives_inputs(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    model = write(
        tmp_path / "m.onnx",
        [
            value("pixels", TensorProto.FLOAT, ["batch", 3, 8, None]),
            value("input_ids", TensorProto.INT64, ["batch", "length"]),
            value("attention_mask", TensorProto.INT32, ["batch", "length"]),
            value("token_type_ids", TensorProto.INT64, [2, "length"]),
            value("flag", TensorProto.BOOL, []),
        ],
    )
    specs = signature(model)
    assert specs[0] == TensorSpec("pixels", "float32", ("batch", 3, 8, "?"))
    feeds = feeds_from_signature(specs, count=2)
    row = {name: rows[0] for name, rows in feeds.arrays.items()}
    assert row["pixels"].shape == (1, 3, 8, 32)
    assert row["pixels"].dtype == np.float32
    assert row["input_ids"].shape == (1, 32)
    assert set(row["input_ids"].ravel().tolist()) <= {0, 1}
    assert row["attention_mask"].dtype == np.int32
    assert row["attention_mask"].all()
    assert row["token_type_ids"].shape == (2, 32)
    assert not row["token_type_ids"].any()
    assert row["flag"].shape == ()
    again = feeds_from_signature(specs, count=2)
    assert np.array_equal(again.arrays["pixels"][1], feeds.arrays["pixels"][1])


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_no_model(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"m\.onnx"):
        signature(OnnxModel(file))


def test_a_model_without_a_tokenizer(tagger: Candidate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no task or tokenizer"):
        encoded_feeds(replace(tagger, preprocessor=None), SENTENCES)
    with pytest.raises(DataError, match="needs examples"):
        timing_feeds([Candidate(TorchModel(tmp_path))], (), 4)
