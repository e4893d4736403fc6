"""Answers that are none any more are told from answers that differ a little."""

from __future__ import annotations

import numpy as np
import pytest

from edgecompress.quantization.prove.answers import LARGEST_ERROR, compare_outputs, first_fault

RANDOM = np.random.default_rng(0)
LOGITS = [RANDOM.standard_normal((1, 7, 12)).astype(np.float32) for _ in range(4)]
BOXES = [
    np.concatenate([600 * RANDOM.random((1, 4, 20)), RANDOM.random((1, 10, 20)) ** 8], axis=1)
    for _ in range(4)
]


def fault(before: list, after: list) -> str:
    return first_fault(compare_outputs(["y"], [[x] for x in before], [[x] for x in after]))


def off(values: list, by: float) -> list:
    random = np.random.default_rng(1)
    return [x + by * x.std() * random.standard_normal(x.shape) for x in values]


@pytest.mark.parametrize("by", [0.001, 0.05, 0.5])
def test_answers_may_differ_a_little(by: float) -> None:
    (found,) = compare_outputs(["y"], [[x] for x in LOGITS], [[x] for x in off(LOGITS, by)])
    assert not found.fault and found.error == pytest.approx(by, rel=0.1)
    assert found.largest is not None and found.largest > by


def test_what_is_no_answer_is_said() -> None:
    assert f"most allowed: {LARGEST_ERROR:g}" in fault(LOGITS, off(LOGITS, 1.2))
    broken = [x.copy() for x in LOGITS]
    broken[1][0, 2, 3] = np.nan
    assert fault(LOGITS, broken) == "1 of 336 values of y are not finite"
    assert fault(LOGITS, [np.full_like(x, 0.5) for x in LOGITS]).startswith("y is always 0.5")
    # Scores that are all one number: no part of the whole error, and no answer.
    flat = [np.concatenate([x[:, :4], 0 * x[:, 4:]], axis=1) for x in BOXES]
    assert (
        fault(BOXES, flat) == "10 of 14 channels of y (its axis 1) are constant, and vary in fp32"
    )
    assert fault(BOXES, off(BOXES, 0.001)) == ""
    padded = [x.reshape(-1, 12) if place else x for place, x in enumerate(LOGITS)]
    assert fault(padded, off(padded, 0.01)) == ""
    half = [np.concatenate([x[..., :9], 0 * x[..., 9:]], axis=-1) for x in padded]
    assert (
        fault(padded, half) == "3 of 12 channels of y (its axis 1) are constant, and vary in fp32"
    )
    classes = [x.argmax(-1) for x in LOGITS]
    assert fault(classes, [0 * x for x in classes]) == "y is always 0"


def test_what_cannot_be_compared_is_no_fault() -> None:
    masked = [np.where(x > 1, -np.inf, x) for x in LOGITS]
    assert fault(masked, [np.where(x > 1, -np.inf, x + 0.01) for x in LOGITS]) == ""
    assert fault(masked, [np.where(x > 1, -3e38, x + 0.01) for x in LOGITS]) == ""
    assert fault(LOGITS, [x[:, :5] for x in LOGITS]) == ""  # fewer detections
    zeros = [np.zeros((1, 3), np.float32)] * 4
    assert fault(zeros, [x + 1e-3 for x in zeros]) == ""
    names = [np.array([["a", "b"]])] * 4
    assert fault(names, names) == ""


def test_an_output_that_hardly_varies_is_judged_by_its_size() -> None:
    """A detector that hears no speech in noise: 0.010 to 0.012, whatever it is given."""
    quiet = [np.array([[0.01 + 0.0005 * step]], np.float32) for step in range(8)]
    assert fault(quiet, [x + 0.002 for x in quiet]) == ""
    assert fault(quiet, [x + 0.02 for x in quiet]) != ""


@pytest.mark.parametrize("shapes", [[(), (3,), ()], [(), ()], [(1,), (3,), (1,)], [(2, 3), (5, 3)]])
def test_numbers_and_lists_of_any_length_are_compared(shapes: list[tuple[int, ...]]) -> None:
    values = [np.asarray(RANDOM.standard_normal(shape), np.float32) for shape in shapes]
    (found,) = compare_outputs(["y"], [[x] for x in values], [[x + 0.01] for x in values])
    assert found.largest == pytest.approx(0.01, rel=1e-3) and not found.fault
