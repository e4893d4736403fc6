"""Calibration sets: found by name or path, checked, and choosing as they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data.calibration import CalibrationSet, calibration_names, load_calibration
from edgecompress.errors import DataError
from edgecompress.values import Example

EXAMPLES = tuple(
    Example(words=("w",) * (1 + i % 40), tags=("B-DATE" if i % 50 == 0 else "O",), text=str(i))
    for i in range(500)
)


def test_ours_are_sound() -> None:
    assert calibration_names() == ("afrisenti", "masakhaner", "quickstart")
    for name in calibration_names():
        found = load_calibration(name)
        assert found.name == name
        assert found.split == "train"
        assert found.description
        assert found.source
        assert found.licence
        assert len(found.select(EXAMPLES)) == found.samples


def test_labels_brings_rare_ones() -> None:
    chosen = CalibrationSet(name="x", choose="labels", samples=10).select(EXAMPLES)
    assert Counter(e.tags[0] for e in chosen)["B-DATE"] == 5  # the others bear no label
    texts = [Example(text=str(i), label="rare" if i < 4 else "often") for i in range(400)]
    few = CalibrationSet(name="x", choose="labels", samples=20).select(texts)
    assert Counter(e.label for e in few) == {"rare": 4, "often": 16}


def test_length_is_spread() -> None:
    chosen = CalibrationSet(name="x", choose="length", samples=40).select(EXAMPLES)
    lengths = {len(e.words) for e in chosen}
    assert {min(lengths), max(lengths)} == {1, 40}
    assert len(lengths) > 30


@settings(deadline=None)
@given(
    choose=st.sampled_from(["random", "length", "labels"]),
    samples=st.integers(1, 60),
    seed=st.integers(0, 9),
    size=st.integers(1, 50),
)
def test_choice_is_repeatable_and_distinct(choose: str, samples: int, seed: int, size: int) -> None:
    definition = CalibrationSet.model_validate({"name": "x", "choose": choose, "samples": samples})
    chosen = definition.select(EXAMPLES[:size], seed)
    assert len(chosen) == min(samples, size)
    assert len({e.text for e in chosen}) == len(chosen)
    assert chosen == definition.select(EXAMPLES[:size], seed)


def test_seed_and_samples_change_the_choice() -> None:
    definition = CalibrationSet(name="x", samples=20)
    assert definition.select(EXAMPLES, 1) != definition.select(EXAMPLES, 2)
    assert len(definition.select(EXAMPLES, 1, samples=7)) == 7
    assert definition.digest == definition.model_copy(update={"name": "y"}).digest
    assert definition.digest != definition.model_copy(update={"samples": 21}).digest


def test_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nsamples: 3\n")
    assert load_calibration(file) == load_calibration(str(file))
    assert load_calibration(file).samples == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nsampels: 3\n", "unknown key 'sampels'; did you mean 'samples'?"),
        ("name: x\nqq: 3\n", "unknown key 'qq'; there are name, description"),
        ("name: x\nsplit: test\n", "split: Input should be 'train'"),
        ("name: x\nsamples: 0\n", "samples: Input should be greater than or equal to 1"),
        ("samples: 3\n", "name: Field required"),
        ("- a\n", "a calibration set is a mapping"),
        ("", "a calibration set is a mapping"),
        ("name: [\n", ":2: not YAML"),
        ("name: 2026-99-99\n", "YAML cannot read"),
    ],
)
def test_wrong_definitions(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        load_calibration(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'masakhanr'; did you mean 'masakhaner'\?"):
        load_calibration("masakhanr")
    with pytest.raises(DataError, match="there are afrisenti, masakhaner, quickstart"):
        load_calibration("zzz")
    with pytest.raises(DataError, match=r"mine\.yaml: cannot be read"):
        load_calibration(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        load_calibration(tmp_path / "mine.yaml")
    with pytest.raises(DataError, match="the train split is empty"):
        CalibrationSet(name="x").select(())
