"""The offline scenario: which batches are made, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from helpers import labelled_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgecompress.targets.base import Clock
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.local import Local
from edgecompress.targets.offline import Offline, _padded
from edgecompress.values import Candidate, OnnxModel

QUICK = Clock(warmup_ms=1.0, max_warmup_ms=50.0, min_duration_ms=150.0, min_count=40)
TEXTS = labelled_texts(40)


def doubling(path: Path, first: str | int, dtype: int = TensorProto.FLOAT) -> Candidate:
    """Write a graph that adds x to itself, x being (first, 4)."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", dtype, [first, 4])],
        [helper.make_tensor_value_info("y", dtype, [first, 4])],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path / "model.onnx")
    return Candidate(OnnxModel(path / "model.onnx"))


def test_examples_a_second(classifier: Candidate) -> None:
    (found,) = Offline(classifier, TEXTS, QUICK, Local(), batch=8).measure()
    assert (found.metric, found.unit, found.slice) == ("throughput", "1/s", "batch:8")
    assert found.conditions["scenario"] == "offline"
    assert (found.conditions["inputs"], found.conditions["source"]) == (5, "examples")
    assert found.samples % 8 == 0
    assert found.interval is not None
    assert 0 < found.interval[0] <= found.value <= found.interval[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_are_full_and_of_similar_length(
    classifier: Candidate, examples: int, batch: int
) -> None:
    feeds = _padded(classifier, TEXTS[:examples], batch)
    ids, mask = (feeds.arrays[name] for name in ("input_ids", "attention_mask"))
    assert {len(rows) for rows in ids} == {batch}
    assert len(ids) == min(max(examples // batch, 1), 8)
    filled = [(int(rows.sum(axis=1).min()), int(rows.sum(axis=1).max())) for rows in mask]
    for rows, (_, longest) in zip(ids, filled, strict=True):
        assert rows.shape[1] == longest  # no padding that no row needs
    by_length = sorted(filled)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(by_length))


def test_inputs_of_an_unknown_graph(tmp_path: Path) -> None:
    (found,) = Offline(doubling(tmp_path, "batch"), (), QUICK, Local(), batch=16).measure()
    assert found.conditions["source"] == "signature"
    assert found.interval is not None


def test_an_open_axis_without_a_name(tagger: Candidate, tmp_path: Path) -> None:
    candidate = doubling(tmp_path, "")
    (found,) = Offline(candidate, (), QUICK, Local(), batch=4).measure()
    assert found.samples % 4 == 0


def test_a_size_that_is_set_gives_way(tmp_path: Path) -> None:
    candidate = doubling(tmp_path, "batch_size")
    settings_ = InputSettings(sizes={"batch_size": 2})
    (found,) = Offline(candidate, (), QUICK, Local(), settings_, batch=4).measure()
    assert found.slice == "batch:4"
    assert found.value > 0


def test_a_fixed_batch_is_refused_in_words(tmp_path: Path) -> None:
    (found,) = Offline(doubling(tmp_path, 1), (), QUICK, Local(), batch=8).measure()
    assert found.invalid is not None
    assert "fixed at 1" in found.invalid
    assert np.isnan(found.value)
    (found,) = Offline(doubling(tmp_path, 8), (), QUICK, Local(), batch=8).measure()
    assert found.value > 0


def test_given_inputs_are_not_put_into_batches(tmp_path: Path) -> None:
    file = tmp_path / "inputs.npz"
    np.savez(file, x=np.zeros((1, 4), np.float32))
    candidate = doubling(tmp_path, "batch")
    (found,) = Offline(candidate, (), QUICK, Local(), InputSettings(file=file), batch=8).measure()
    assert "given as they are" in str(found.invalid)
