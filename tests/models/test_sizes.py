"""Sizes that a graph leaves open: as set, else by what their names mean."""

from __future__ import annotations

import pytest

from edgecompress.errors import RecipeError
from edgecompress.models.sizes import LENGTH, batch_names, resolved
from edgecompress.values import TensorSpec


def spec(name: str, *shape: int | str, dtype: str = "int64") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (spec("input_ids", "batch_size", "sequence_length"), (1, LENGTH)),
        (spec("x", "N", "C", "H", "W", dtype="float32"), (1, 3, 224, 224)),
        (spec("x", "N", "x.1", "x.2", "x.3", dtype="float32"), (1, 3, 224, 224)),
        (spec("x", "x.0", "x.1", "x.2", 3, dtype="uint8"), (1, 224, 224, 3)),
        (spec("x", "time", "batch", 8, dtype="float32"), (LENGTH, 1, 8)),
        (spec("x", "s0", "s1", 64, dtype="float32"), (1, LENGTH, 64)),
        (spec("x", "unk__12", 5), (1, 5)),
        (spec("flag"), ()),
    ],
)
def test_names_and_places_give_sizes(given, shape):
    assert resolved([[given]], {})[0][given.name] == shape


def test_a_symbol_has_one_size_everywhere():
    ids, mask = spec("ids", "batch", "length"), spec("mask", "batch", 1, "length")
    other = spec("other", "length")
    first, second = resolved([[ids, mask], [other]], {"length": 7, "batch": 2})
    assert first == {"ids": (2, 7), "mask": (2, 1, 7)}
    assert second == {"other": (7,)}


def test_a_total_is_past_and_present():
    specs = [
        spec("ids", "batch", "sequence_length"),
        spec("mask", "batch", "total_sequence_length"),
        spec("key", "batch", 4, "past_sequence_length", 16, dtype="float32"),
        spec("bias", "past_sequence_length + sequence_length", "2 * batch"),
    ]
    sized = resolved([specs], {"sequence_length": 1, "past_sequence_length": 9})[0]
    assert sized["mask"] == (1, 10)
    assert sized["bias"] == (10, 2)


def test_an_open_axis_is_named_by_its_input():
    given = spec("x", 1, "x.1", dtype="float32")
    assert resolved([[given]], {"x.1": 50})[0]["x"] == (1, 50)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"sequence": 4}, "no size of this name; did you mean 'sequence_length'"),
        ({"x.1": 4}, "fixes this axis at 3"),
        ({"x.0": 4}, "calls this axis 'sequence_length'"),
        ({"sequence_length": -1}, "at least 0"),
    ],
)
def test_a_size_that_cannot_be_set(sizes, said):
    with pytest.raises(RecipeError, match=said) as failure:
        resolved([[spec("x", "sequence_length", 3)]], sizes)
    assert str(failure.value).startswith("inputs.sizes.")


def test_nothing_to_set():
    with pytest.raises(RecipeError, match="leaves no size open"):
        resolved([[spec("x", 2)]], {"batch": 1})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (spec("ids", "batch_size", "length"), ["batch_size"]),
        (spec("ids", "time", "batch"), ["batch"]),
        (spec("ids", "s0", "s1"), ["s0"]),
        (spec("x", "x.0", "x.1"), ["x.0"]),
        (spec("ids", "length"), []),
        (spec("ids", 1, "length"), []),
        (spec("ids", "2 * batch"), []),
    ],
)
def test_which_sizes_are_the_batch(given, names):
    assert batch_names([given]) == names
