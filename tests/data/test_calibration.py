"""Calibration sets: found by name or path, checked, and choosing as they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data.calibration import (
    FEW,
    CalibrationSet,
    calibration_names,
    few_examples,
    k_centre,
    load_calibration,
    word_embeddings,
)
from edgecompress.errors import DataError
from edgecompress.stage import stage_class, stage_modules
from edgecompress.texts import label_of, tags_of, text_example, text_of, words_example, words_of
from edgecompress.values import Example

EXAMPLES = tuple(
    Example({"words": ("w",) * (1 + i % 40), "text": str(i)}, ("B-DATE" if i % 50 == 0 else "O",))
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


def test_few_examples_are_remarked_on() -> None:
    """The share that is named is what order statistics say, tried on random numbers."""
    generator = np.random.default_rng(1)
    for count in (1, 2, 10, FEW - 1):
        drawn = generator.standard_normal((20_000, count + 1))
        new, seen = drawn[:, 0], drawn[:, 1:]
        beyond = float(np.mean((new > seen.max(1)) | (new < seen.min(1))))
        said = few_examples({"calibrated_on": count})
        assert said is not None and f"{count if count > 1 else 'one'} example" in said
        share = int(said.partition("about ")[2].partition(" %")[0])
        assert abs(share - 100 * beyond) < 1.5
    for enough in ({"calibrated_on": FEW}, {"calibrated_on": 0}, {}, {"calibrated_on": None}):
        assert few_examples(enough) is None


def test_labels_brings_rare_ones() -> None:
    chosen = CalibrationSet(name="x", choose="labels", samples=10).select(EXAMPLES)
    assert Counter(tags_of(e)[0] for e in chosen)["B-DATE"] == 5  # the others bear no label
    texts = [text_example(text=str(i), label="rare" if i < 4 else "often") for i in range(400)]
    few = CalibrationSet(name="x", choose="labels", samples=20).select(texts)
    assert Counter(label_of(e) for e in few) == {"rare": 4, "often": 16}


def test_length_is_spread() -> None:
    chosen = CalibrationSet(name="x", choose="length", samples=40).select(EXAMPLES)
    lengths = {len(words_of(e)) for e in chosen}
    assert {min(lengths), max(lengths)} == {1, 40}
    assert len(lengths) > 30


@settings(deadline=None)
@given(
    choose=st.sampled_from(["random", "length", "labels", "kcentre"]),
    samples=st.integers(1, 60),
    seed=st.integers(0, 9),
    size=st.integers(1, 50),
)
def test_choice_is_repeatable_and_distinct(choose: str, samples: int, seed: int, size: int) -> None:
    definition = CalibrationSet.model_validate({"name": "x", "choose": choose, "samples": samples})
    chosen = definition.select(EXAMPLES[:size], seed)
    assert len(chosen) == min(samples, size)
    assert len({text_of(e) for e in chosen}) == len(chosen)
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
        ("name: [\n", ":2: not valid YAML"),
        ("name: !!set {a}\n", ":1: name: a value of the kind"),
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
    with pytest.raises(DataError, match=r"mine\.yaml: there is no such file"):
        load_calibration(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_bytes(b"\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        load_calibration(tmp_path / "mine.yaml")
    with pytest.raises(DataError, match="the train split is empty"):
        CalibrationSet(name="x").select(())


def test_kcentre_takes_what_differs() -> None:
    topics = ("market price trade", "rain river flood", "goal match player")
    texts = [text_example(text=f"{topics[0]} {i % 3}") for i in range(60)]
    texts[17], texts[41] = text_example(text=topics[1]), text_example(text=topics[2])
    chosen = CalibrationSet(name="x", choose="kcentre", samples=3)
    for seed in range(5):
        found = {text_of(example) for example in chosen.select(texts, seed)}
        assert {topics[1], topics[2]} <= found
    assert chosen.select(texts, 3) == chosen.select(texts, 3)
    assert chosen.digest != CalibrationSet(name="x", choose="random", samples=3).digest


def test_kcentre_is_at_most_twice_as_far_as_the_best() -> None:
    points = np.array([[0], [0.1], [5], [5.1], [9], [9.2]], np.float32)
    assert sorted(int(points[i, 0]) for i in k_centre(points, 3)) == [0, 5, 9]
    assert sorted(k_centre(np.zeros((4, 2), np.float32), 4)) == [0, 1, 2, 3]


def test_embeddings_are_of_words_not_of_their_order() -> None:
    same = [
        words_example(words=("Kano", "rain")),
        text_example(text="RAIN kano"),
        text_example(text=""),
    ]
    found = word_embeddings(same)
    assert np.array_equal(found[0], found[1]) and not found[2].any()
    assert np.isclose(np.linalg.norm(found[0]), 1)


def test_a_set_that_no_stage_can_find_is_told_before_work_starts() -> None:
    found = {name: stage_class(name) for name in stage_modules()}
    named = {name: kind for name, kind in found.items() if "calibration" in kind.model_fields}
    assert {"quantize.static", "quantize.auto", "quantize.inc_static"} <= named.keys()
    for name, kind in named.items():
        method = {"method": "gptq"} if name == "quantize.weights" else {}  # which alone takes one
        with pytest.raises(DataError, match="no calibration set is called 'nowhere'"):
            kind.model_validate({"calibration": "nowhere", **method}).check_inputs()
