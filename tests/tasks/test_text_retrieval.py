"""Queries and the texts that answer them: ranks by vectors, over all texts that are judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_models import sentences, write_sentence_model

from edgecompress.data import data_config
from edgecompress.errors import DataError
from edgecompress.processors import processor_class
from edgecompress.tasks import Answers, task, wanted
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import scores as score_all
from edgecompress.values import Example

TASK = task("text-retrieval")


def said(vectors: list[np.ndarray]) -> Answers:
    none = ((),) * len(vectors)
    details = tuple({"vectors": np.asarray(one, np.float32)} for one in vectors)
    return Answers(none, (np.zeros(0),) * len(none), details)


def scores(examples: list[Example], vectors: list[Any]) -> dict[str, float]:
    return {one.metric: one.value for one in TASK.score(said(vectors), examples, ())
            if one.slice is None}  # fmt: skip


def test_ranks_are_over_the_texts_of_all_queries() -> None:
    examples = [
        Example({"query": "a", "positives": ("x", "y")}),
        Example({"query": "b", "positives": "y", "negatives": ("z",)}),
        Example({"text": "of no query"}),
    ]
    # From nearest to farthest: query a finds z, x, y; query b finds y first.
    x, y, z = (1, 0.3, 0), (0.5, 1, 0), (1, 0.1, 0)
    found = scores(examples, [[(1, 0, 0), x, y], [(0, 1, 0), y, z], [(9, 9, 9)]])
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["recall_at_1"] == pytest.approx((0 + 1) / 2)
    assert found["recall_at_5"] == 1


@given(st.integers(0, 1000), st.integers(2, 12))
def test_they_are_those_of_sorting(seed: int, count: int) -> None:
    chance = np.random.default_rng(seed)
    examples = [Example({"query": f"q{n}", "positives": (f"p{n}",)}) for n in range(count)]
    vectors = [chance.normal(size=(2, 5)) for _ in range(count)]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in vectors]
    near = np.array([[q[0] @ p[1] for p in unit] for q in unit])
    places = [1 + list(np.argsort(-near[n])).index(n) for n in range(count)]
    found = scores(examples, vectors)
    assert found["mrr"] == pytest.approx(np.mean([1 / place for place in places]))
    assert found["recall_at_5"] == pytest.approx(np.mean([place <= 5 for place in places]))
    floor = TASK.floor(examples, None)
    assert floor is not None
    alike = {one.metric: one.value for one in TASK.score(floor.answers(examples), examples, ())}
    assert alike["mrr"] == pytest.approx(2 / (count + 1))  # the mean rank


def test_what_is_searched_stays_when_queries_are_drawn_again() -> None:
    """A query that is drawn twice must not make the others easier to find."""
    chance = np.random.default_rng(0)
    examples = [Example({"query": f"q{n}", "positives": (f"p{n}",)}) for n in range(30)]
    vectors = [chance.normal(size=(2, 4)) for _ in examples]
    worse = [each + chance.normal(size=(2, 4)) for each in vectors]
    metric = TASK.metrics[0]
    drop, low, high = paired_bootstrap_drop(metric, said(vectors), said(worse), examples, 1)
    assert low < drop < high
    one, other = scores(examples, vectors), scores(examples, worse)
    assert drop == pytest.approx(one["mrr"] - other["mrr"])


def test_metrics_that_sum_up_the_same_are_counted_once() -> None:
    asked = []

    def counts(answers: Answers, examples: Sequence[Example]) -> np.ndarray:
        asked.append(len(examples))
        return np.ones((len(examples), 1))

    two = [replace(one, counts=counts, value=lambda sums: sums[..., 0]) for one in TASK.metrics[:2]]
    found = score_all(two, said([np.ones((2, 2))] * 3), [Example({"query": "a"})] * 3, ())
    assert [one.value for one in found] == [3, 3] and asked == [3]


def read(folder: Path, lines: list[dict[str, Any]]) -> Any:
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = data_config({"format": "jsonl", "root": folder, "train": "a.jsonl"})
    return config.for_task(wanted(TASK)).read("train")


def test_records_are_read_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, [{"query": "a", "positives": ["b", "c"], "negatives": ["d"]}])
    assert found[0].inputs == {"query": "a", "positives": ("b", "c"), "negatives": ("d",)}
    assert read(tmp_path, [{"question": "a", "positive": "b"}])[0].inputs["positives"] == "b"
    assert read(tmp_path, [{"text": "a"}])[0].inputs == {"text": "a"}  # to learn from
    for wrong in ({"positives": []}, {"positives": ["b", " "]}, {"positives": 3}):
        with pytest.raises(DataError, match=r"a\.jsonl:2.*positives must hold a text or a list"):
            read(tmp_path, [{"query": "a", "positives": ["b"]}, {"query": "a", **wrong}])
    with pytest.raises(DataError, match="no example is a query with the texts that answer it"):
        TASK.check_judged([Example({"text": "a"})])


def test_both_sides_have_their_prompts(tmp_path: Path) -> None:
    write_sentence_model(tmp_path / "st", prompts={"query": "market ", "passage": "leo "})
    processor = processor_class("sentences").load(tmp_path / "st")
    one, other = sentences(2)
    rows = TASK.rows([Example({"query": one, "positives": (other,)})], processor, ())
    plain = task("feature-extraction").rows(
        [Example({"text": f"market {one}"}), Example({"text": f"leo {other}"})], processor, ()
    )
    assert [row.feed["input_ids"].tolist() for row in rows] == [
        row.feed["input_ids"].tolist() for row in plain
    ]
