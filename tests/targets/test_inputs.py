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
from edgecompress.models.graph import signature
from edgecompress.targets.inputs import (
    InputSettings,
    encoded_feeds,
    question,
    spread,
    timing_feeds,
)
from edgecompress.texts import text_example, words_example
from edgecompress.values import Candidate, OnnxModel, TorchModel

WORDS = ("muhammadu", "buhari", "abuja", "na")
SENTENCES = tuple(
    words_example(words=WORDS[:count] * 2, tags=("O",) * 2 * count) for count in (1, 2, 4)
)


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
    assert question(SENTENCES[0]).target is None
    assert question(text_example(text="a", label="b")).target is None


def test_each_row_is_a_batch_of_one(tagger: Candidate) -> None:
    feeds, encoded, _ = encoded_feeds(tagger, SENTENCES)
    assert set(feeds.arrays) == {"input_ids", "attention_mask"}
    assert all(row.shape[0] == 1 for row in feeds.arrays["input_ids"])
    assert [row.shape[1] for row in feeds.arrays["input_ids"]] == encoded.lengths.tolist()


def test_candidates_share_inputs_and_items(tagger: Candidate) -> None:
    blank = words_example(words=(" ",), tags=("O",))
    feeds, texts = timing_feeds([tagger, tagger], (*SENTENCES, blank), 10)
    assert feeds[0].items.tolist() == feeds[1].items.tolist()
    assert len(texts) == 3
    assert set(feeds[0].items.tolist()) == {0, 1, 2}


def test_blank_data_is_refused(tagger: Candidate) -> None:
    with pytest.raises(DataError, match="blank"):
        timing_feeds([tagger], [words_example(words=(" ",), tags=("O",))], 10)


def graph(path: Path) -> OnnxModel:
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    out = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    node = helper.make_node("Identity", ["ids"], ["y"])
    made = helper.make_graph([node], "g", [given], [out])
    onnx.save(helper.make_model(made), str(path))
    return OnnxModel(path)


def test_settings_read_back_what_they_dump(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, ids=np.ones((1, 4), np.int64))
    settings = InputSettings(file=file)
    dumped = settings.model_dump(mode="json")
    assert InputSettings.model_validate(dumped) == settings
    np.savez(file, ids=np.zeros((1, 4), np.int64))
    assert settings.model_dump(mode="json")["digest"] != dumped["digest"]


def test_settings_are_checked_before_any_work(tmp_path: Path) -> None:
    InputSettings(sizes={"batch": 2}).check()
    with pytest.raises(DataError, match=r"x\.npz: there is no such file"):
        InputSettings(file=tmp_path / "x.npz").check()
    (tmp_path / "x.npz").touch()
    with pytest.raises(DataError, match="leave out sizes and bounds"):
        InputSettings(file=tmp_path / "x.npz", bounds={"ids": 2}).check()


def test_a_graph_without_examples_is_fed_by_its_signature(tmp_path: Path) -> None:
    model = Candidate(graph(tmp_path / "m.onnx"))
    feeds, texts = timing_feeds([model, model], SENTENCES, 10)
    assert texts == ()
    assert feeds[0] is feeds[1]
    assert feeds[0].arrays["ids"][0].shape == (1, 32)
    settings = InputSettings(sizes={"length": 7}, bounds={"ids": (5, 6)})
    feeds, _ = timing_feeds([model], (), 10, settings)
    assert np.array_equal(feeds[0].arrays["ids"][0], np.full((1, 7), 5))


def test_a_graph_is_fed_what_a_file_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.arange(4)[None])
    settings = InputSettings(file=tmp_path / "x.npz")
    feeds, _ = timing_feeds([Candidate(graph(tmp_path / "m.onnx"))], (), 10, settings)
    assert feeds[0].arrays["ids"][0].tolist() == [[0, 1, 2, 3]]


def test_what_is_set_counts_more_than_examples(tagger: Candidate) -> None:
    length = next(size for size in signature(tagger.model)[0].shape[1:] if isinstance(size, str))
    feeds, texts = timing_feeds([tagger], SENTENCES, 10, InputSettings(sizes={length: 5}))
    assert texts == ()
    assert feeds[0].arrays["input_ids"][0].shape == (1, 5)


def test_a_model_without_a_tokenizer(tagger: Candidate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no task or tokenizer"):
        encoded_feeds(replace(tagger, preprocessor=None), SENTENCES)
    with pytest.raises(DataError, match="with examples only"):
        timing_feeds([Candidate(TorchModel(tmp_path))], (), 4)
