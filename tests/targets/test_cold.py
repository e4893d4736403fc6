"""Cold starts: what is measured of each, and which inputs they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.targets.base import Clock, Feeds
from edgecompress.targets.cold import COLD_INPUTS, Cold, few_lengths
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.local import Local
from edgecompress.texts import words_example
from edgecompress.values import Candidate


def test_six_starts_give_an_interval(tagger: Candidate) -> None:
    found = {
        m.metric: m
        for m in Cold(
            Candidate(tagger.model), (), Clock(cold_starts=6, arena=False), Local()
        ).measure()
    }
    assert set(found) >= {"load_time", "first_inference", "load_memory", "peak_memory"}
    for measured in found.values():
        assert measured.samples == 6
        assert measured.interval is not None
        assert measured.conditions["arena"] == "off"
    assert found["peak_memory"].value > found["memory_rise"].value >= found["load_memory"].value
    if "pss" in found:
        assert 0 < found["pss"].value <= found["peak_memory"].value


def test_fewer_say_that_they_give_none(tagger: Candidate) -> None:
    clock = Clock(cold_starts=2)
    for measured in Cold(Candidate(tagger.model), (), clock, Local()).measure():
        assert measured.interval is None
        assert "2 starts" in measured.conditions["interval"]


def test_where_inputs_and_memory_come_from(tagger: Candidate, tmp_path: Path) -> None:
    file = tmp_path / "inputs.npz"
    row = np.ones((1, 3), np.int64)
    np.savez(file, input_ids=row, attention_mask=row)
    given_file = InputSettings(file=file)
    examples = (words_example(words=("na", "abuja"), tags=("O", "O")),)
    once = Clock(cold_starts=1)
    for texts, inputs, source in (
        ((), InputSettings(), "signature"), (examples, InputSettings(), "examples"),
        (examples, given_file, "file"),
    ):  # fmt: skip
        found = Cold(tagger, texts, once, Local(), inputs).measure()
        assert {m.conditions["source"] for m in found} == {source}
        peak = next(m for m in found if m.metric == "peak_memory")
        assert peak.conditions["read_from"] in ("VmHWM", "ru_maxrss")


@given(st.lists(st.integers(1, 99), min_size=1, max_size=40))
def test_few_inputs_hold_the_first_and_the_longest(lengths: list[int]) -> None:
    rows = tuple(np.zeros((1, length), np.int64) for length in lengths)
    few = few_lengths(Feeds({"x": rows}, np.arange(len(rows))))
    kept = [row.shape[1] for row in few.arrays["x"]]
    alike = len(set(lengths)) == 1  # one tells what all of them take
    assert len(kept) == (1 if alike else min(len(lengths), COLD_INPUTS))
    assert kept[0] == lengths[0]
    assert max(kept) == max(lengths)
    assert few.items.tolist() == list(range(len(kept)))
