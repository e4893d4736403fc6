"""The losses: what they ignore, and their values worked out in numpy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgecompress.errors import StageError
from edgecompress.tasks import Output
from edgecompress.training.losses import (
    averaged,
    divergence,
    example_losses,
    hard_loss,
    hidden_loss,
    relation_loss,
    softened,
    task_loss,
)


def soft_loss(student, teacher, temperature, weights=None):
    return divergence(student, softened(teacher, temperature), temperature, weights)


def log_softmax(scores):
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def kl(wanted, found):
    return (np.exp(wanted) * (wanted - found)).sum(-1)


def test_hard_loss_ignores_what_has_no_label():
    logits = torch.randn(2, 3, 4)
    targets = torch.tensor([[1, -100, 2], [3, -100, -100]])
    chosen = targets != -100
    expected = torch.nn.functional.cross_entropy(logits[chosen], targets[chosen])
    torch.testing.assert_close(hard_loss(logits, targets), expected)
    assert hard_loss(logits, torch.full((2, 3), -100)) == 0
    flat = torch.nn.functional.cross_entropy(logits[0], targets[0].clamp(min=0))
    torch.testing.assert_close(hard_loss(logits[0], targets[0].clamp(min=0)), flat)


@pytest.mark.parametrize("shape", [(3,), (3, 5)])
def test_example_losses_are_means_per_row(shape):
    logits = torch.randn(*shape, 4)
    targets = torch.randint(0, 4, shape)
    if len(shape) == 2:
        targets[1, 2:] = -100
    each = example_losses(logits, targets)
    assert each.shape == (3,)
    for row in range(3):
        expected = hard_loss(logits[row : row + 1], targets[row : row + 1])
        torch.testing.assert_close(each[row], expected)


def test_soft_loss():
    teacher = torch.randn(6, 4)
    assert soft_loss(teacher, teacher, 2.0) == pytest.approx(0, abs=1e-6)
    assert soft_loss(teacher + 3, teacher, 2.0) == pytest.approx(0, abs=1e-6)
    student = torch.randn(6, 4)
    each = kl(log_softmax(teacher.numpy() / 2), log_softmax(student.numpy() / 2)) * 4
    assert soft_loss(student, teacher, 2.0) == pytest.approx(each.mean(), rel=1e-5)
    weights = np.array([1, 0, 2, 0, 0, 1], dtype=np.float32)
    expected = (each * weights).sum() / 4
    found = soft_loss(student, teacher, 2.0, torch.from_numpy(weights))
    assert found == pytest.approx(expected, rel=1e-5)
    assert soft_loss(student[:0], teacher[:0], 2.0) == 0
    gradients = []
    for temperature in (50.0, 100.0):
        copy = student.clone().requires_grad_()
        soft_loss(copy, teacher, temperature).backward()
        gradients.append(copy.grad.norm())
    assert float(gradients[0] / gradients[1]) == pytest.approx(1, rel=0.05)


def test_several_teachers_are_averaged_as_probabilities():
    first, second, student = torch.randn(3, 5, 4).unbind()
    weights = torch.tensor([[1.0, 0, 3, 1, 2], [1.0, 2, 1, 0, 2]])
    mean = averaged([softened(first, 2.0), softened(second, 2.0)], weights)
    probabilities = np.exp(
        [log_softmax(first.double().numpy() / 2), log_softmax(second.double().numpy() / 2)]
    )
    shares = (weights / weights.sum(0)).numpy()[..., None]
    expected = np.log((shares * probabilities).sum(0))
    np.testing.assert_allclose(mean.numpy(), expected, atol=1e-5)
    found = divergence(student, mean, 2.0)
    each = kl(expected, log_softmax(student.double().numpy() / 2)) * 4
    assert found == pytest.approx(each.mean(), rel=1e-4)


def test_hidden_loss_sees_direction_not_size():
    teacher = torch.randn(5, 8)
    assert hidden_loss(teacher * 7 + 2, teacher) == pytest.approx(0, abs=1e-4)
    assert hidden_loss(-teacher, teacher) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("distance", ["normalized", "mse", "cosine"])
def test_hidden_loss_in_numpy(distance):
    student, teacher = torch.randn(2, 5, 8).unbind()
    ours, its = student.double().numpy(), teacher.double().numpy()
    if distance == "cosine":
        norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(its, axis=-1)
        each = 1 - (ours * its).sum(-1) / norms
    else:
        if distance == "normalized":
            ours, its = (
                (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
                for x in (ours, its)
            )
        each = ((ours - its) ** 2).mean(-1)
    assert hidden_loss(student, teacher, distance) == pytest.approx(each.mean(), rel=1e-4)
    weights = np.array([0, 1, 2, 0, 1], dtype=np.float32)
    found = hidden_loss(student, teacher, distance, torch.from_numpy(weights))
    assert found == pytest.approx((each * weights).sum() / 4, rel=1e-4)


def slow_relations(student, teacher, lengths, heads, weights):
    total = count = 0.0
    for row, length in enumerate(lengths):
        for head in range(heads):
            logs = []
            for vectors in (student, teacher):
                size = vectors.shape[-1] // heads
                part = vectors[row, :length, head * size : (head + 1) * size]
                logs.append(log_softmax(part @ part.T / np.sqrt(size)))
            total += weights[row] * kl(logs[1], logs[0]).sum() / heads
        count += weights[row] * length
    return total / count


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0)])
def test_relations_in_numpy(weights):
    """Widths and real lengths differ; padding is random and must not matter."""
    student, teacher = torch.randn(3, 6, 8), torch.randn(3, 6, 12)
    lengths = (6, 2, 4)
    real = torch.arange(6)[None, :] < torch.tensor(lengths)[:, None]
    each = None if weights is None else torch.tensor(weights)
    found = relation_loss(student, teacher, real, 4, each)
    expected = slow_relations(
        student.double().numpy(), teacher.double().numpy(), lengths, 4, weights or (1, 1, 1)
    )
    assert found == pytest.approx(expected, rel=1e-4)
    assert relation_loss(teacher, teacher, real, 3) == pytest.approx(0, abs=1e-6)
    student.requires_grad_()
    relation_loss(student, teacher, real, 2).backward()
    assert torch.isfinite(student.grad).all()
    assert (student.grad[1, 2:] == 0).all()


def task_of(*outputs, loss=None):
    return SimpleNamespace(name="a-task", outputs=outputs, loss=lambda _outputs, _targets: loss)


def test_a_tasks_loss_is_that_of_its_outputs():
    """Classes by cross entropy, numbers by their squared distance where somebody has said them."""
    logits, found = torch.randn(3, 4), torch.randn(3, 2)
    labels = torch.tensor([1, -100, 3])
    wanted = torch.tensor([[0.5, 1.0], [float("nan"), 2.0], [float("nan"), float("nan")]])
    outputs, targets = {"logits": logits, "box": found}, {"labels": labels, "boxes": wanted}
    box = Output("box", "vector", "boxes")
    known = ~wanted.isnan()
    expected = (found[known] - wanted[known]).square().mean()
    torch.testing.assert_close(task_loss(task_of(box), outputs, targets), expected)
    both = task_loss(task_of(Output(), box), outputs, targets)
    torch.testing.assert_close(both, expected + hard_loss(logits, labels))
    own = torch.tensor(7.0)
    assert task_loss(task_of(Output(), loss=own), outputs, targets) is own
    with pytest.raises(StageError, match="a-task has no classes to smooth"):
        task_loss(task_of(box), outputs, targets, 0.1)


def test_vectors_are_compared_as_they_are():
    student, first, second = torch.randn(3, 5, 4).unbind()
    found = divergence(student, softened(first, 2.0, "vector"), 2.0, kind="vector")
    torch.testing.assert_close(found, (student - first).square().mean())
    weights = torch.tensor([[1.0] * 5, [3.0] * 5])
    mean = averaged([first, second], weights, "vector")
    torch.testing.assert_close(mean, (first + 3 * second) / 4)
