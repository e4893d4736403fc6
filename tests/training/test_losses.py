"""The losses: what they ignore, and what they do not depend on."""

import pytest
import torch

from edgecompress.training.losses import example_losses, hard_loss, hidden_loss, soft_loss


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
    gradients = []
    for temperature in (50.0, 100.0):
        copy = student.clone().requires_grad_()
        soft_loss(copy, teacher, temperature).backward()
        gradients.append(copy.grad.norm())
    assert float(gradients[0] / gradients[1]) == pytest.approx(1, rel=0.05)


def test_hidden_loss_sees_direction_not_size():
    teacher = torch.randn(5, 8)
    assert hidden_loss(teacher * 7 + 2, teacher) == pytest.approx(0, abs=1e-4)
    assert hidden_loss(-teacher, teacher) == pytest.approx(4, rel=0.01)
