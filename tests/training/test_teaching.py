"""A student's loss, put together: rows that count less, and several teachers in one batch."""

import numpy as np
import pytest
import torch
from helpers import small_context, tagged_examples, tiny_teacher

from edgecompress.surgery.model import load_module
from edgecompress.training.distillation import Teaching, Weights
from edgecompress.training.encoding import make_rows
from edgecompress.training.losses import averaged, divergence, hidden_loss, softened
from edgecompress.training.relations import captured
from edgecompress.training.supervision import Plan, supervise
from edgecompress.training.teachers import Opened

EXAMPLES = tagged_examples(6, 3)
WEIGHTS = Weights(logits=2.0, hidden=3.0, temperature=2.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student and two teachers with one tokenizer, untrained, of other weights."""
    path = tmp_path_factory.mktemp("teaching")
    return [
        tiny_teacher(path / name, EXAMPLES, "token-classification", layers=layers)
        for name, layers in (("student", 2), ("one", 3), ("two", 4))
    ]


def found_and_outputs(models, shares, row_weights, path):
    """The loss of all rows, and what each model alone says of each row."""
    student, *teachers = models
    modules = [load_module(model.model) for model in models]
    rows = make_rows(student, EXAMPLES, modules[0])
    opened = [Opened("t", t, share) for t, share in zip(teachers, shares, strict=True)]
    plan = Plan(WEIGHTS, "last", None, None)
    supervisions = supervise(opened, rows, modules[0], plan, small_context(path))
    numbers = np.arange(len(EXAMPLES))
    feed = rows.feed(numbers)
    with captured(modules[0], ()) as caught:
        teaching = Teaching(rows, supervisions, WEIGHTS, row_weights, caught)
        output = modules[0](**feed, output_hidden_states=True)
        loss = teaching.loss(output, numbers)
    alone = [[m(**rows.feed([row]), output_hidden_states=True) for row in numbers] for m in modules]
    return float(loss.detach()), rows, alone


def test_each_row_is_taught_by_its_own_teachers(models, tmp_path):
    """Row 0 by both, rows 1 and 2 by the first, the others by the second."""
    shares = (np.array([1.0, 1, 1, 0, 0, 0]), np.array([3.0, 0, 0, 3, 3, 3]))
    weights = np.array([1, 0.5, 1, 1, 0.5, 1], dtype=np.float32)
    found, rows, (ours, *theirs) = found_and_outputs(models, shares, weights, tmp_path)
    answers = counts = 0.0
    inner, tokens, units = [0.0, 0.0], [0.0, 0.0], [0, 0]
    for row, weight in enumerate(weights.tolist()):
        at = torch.from_numpy(rows.rows[row].place["positions"])
        wanted = averaged(
            [softened(its[row].logits[0, at], 2.0) for its in theirs],
            torch.tensor([share[row] for share in shares]).float()[:, None].expand(2, len(at)),
        )
        answers += weight * len(at) * float(divergence(ours[row].logits[0, at], wanted, 2.0))
        counts += weight * len(at)
        first = 0 if shares[0][row] else 1
        states = (ours[row].hidden_states[-1][0], theirs[first][row].hidden_states[-1][0])
        inner[first] += weight * len(states[0]) * float(hidden_loss(*states))
        tokens[first] += weight * len(states[0])
        units[first] += len(states[0])
    hidden = sum(units[i] / sum(units) * inner[i] / tokens[i] for i in (0, 1))
    assert found == pytest.approx(2 * answers / counts + 3 * hidden, rel=2e-3)


def test_all_rows_alike_is_the_plain_mean(models, tmp_path):
    shares = (np.ones(6), np.zeros(6))
    one, _, _ = found_and_outputs(models[:2], shares[:1], None, tmp_path / "a")
    even = np.ones(6, dtype=np.float32)
    two, _, _ = found_and_outputs(models[:2], shares[:1], even, tmp_path / "b")
    assert one == pytest.approx(two, rel=1e-5)
    half = np.full(6, 0.5, dtype=np.float32)
    three, _, _ = found_and_outputs(models[:2], shares[:1], half, tmp_path / "c")
    assert one == pytest.approx(three, rel=1e-5)
