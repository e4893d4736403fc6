"""Layer maps: chosen ones, and the mixture that is learned."""

import pytest
import torch

from edgecompress.errors import StageError
from edgecompress.training.layer_maps import Mixture, layer_pairs
from edgecompress.training.losses import hidden_loss


@pytest.mark.parametrize(
    ("ours", "its", "expected"),
    [(3, 6, (1, 3, 5)), (4, 6, (1, 2, 4, 5)), (6, 6, (0, 1, 2, 3, 4, 5)), (1, 4, (3,))],
)
def test_uniform_map(ours, its, expected):
    assert layer_pairs("uniform", ours, its) == tuple(enumerate(expected))


def test_other_maps():
    assert layer_pairs("last", 3, 6) == ((2, 5),)
    assert layer_pairs(((0, 5), (2, 0)), 3, 6) == ((0, 5), (2, 0))
    with pytest.raises(StageError, match=r"layer 3 with the teacher's 1; .* 0 to 2, .* 0 to 5"):
        layer_pairs(((3, 1),), 3, 6)
    with pytest.raises(StageError, match="only one"):
        layer_pairs("learned", 3, 1)


def test_a_mixture_begins_at_the_uniform_map_and_finds_the_right_layer():
    torch.manual_seed(0)
    mixture = Mixture(layer_pairs("learned", 2, 4), 4)
    shares = mixture.shares()
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    assert shares.argmax(1).tolist() == [1, 3]
    states = torch.randn(4, 50, 8)
    normal = torch.nn.functional.layer_norm(states, (8,))
    expected = torch.einsum("st,tnw->snw", shares, normal)
    torch.testing.assert_close(mixture(states), expected)
    wanted = states[0] * 3
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=2e-4)
    for _ in range(300):
        optimizer.zero_grad()
        sum(hidden_loss(wanted, mixed) for mixed in mixture(states)).backward()
        optimizer.step()
    assert mixture.shares().argmax(1).tolist() == [0, 0]
    weights = mixture.as_json()["layer_weights"]
    assert [len(row) for row in weights] == [4, 4]
