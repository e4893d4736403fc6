"""Convolutions that are fitted to what they were with more channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.surgery.channels.cutting import keep_channels
from edgecompress.surgery.channels.groups import ChannelGraph, channel_graph
from edgecompress.training.channel_reconstruction import reconstruct


class Net(nn.Module):
    """Strides, dilation, a stream, channels by themselves, biases and none, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 12, (3, 1), padding=(2, 0), dilation=(2, 1))
        self.outer = nn.Conv2d(12, 16, 1, bias=False)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.line = nn.Conv1d(16, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stream = torch.relu(self.norm(self.stem(image)))
        stream = stream + self.outer(torch.relu(self.inner(stream)))
        row = torch.relu(self.deep(stream)).mean(2)
        return self.head(torch.relu(self.line(row)).mean(2))


class Images:
    """Rows of images, as `TorchRows` gives them."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, 3, 16, 16, generator=generator)
        self.lengths = np.full(count, 64)

    def __len__(self) -> int:
        return len(self.images)

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        return {"image": self.images[np.asarray(rows)]}


def answers(module: nn.Module, rows: Images) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(rows.images)
    return found


def halved(module: nn.Module, graph: ChannelGraph) -> tuple[nn.Module, list[list[int]]]:
    kept = [list(range(group.size // 2)) for group in graph.groups]
    narrow = copy.deepcopy(module)
    keep_channels(narrow, graph, kept)
    return narrow, kept


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    made = Net().eval()
    made.norm.running_mean.normal_(std=0.1)
    return made


def fitted(module: nn.Module, rows: Any, images: int, ridge: float = 1e-3) -> list[torch.Tensor]:
    """Cut half of all channels and fit; give both errors on images that nothing was fitted to."""
    held_out = Images(images, 2)
    graph = channel_graph(module, rows.feed([0, 1]))
    narrow, kept = halved(module, graph)
    wanted = answers(module, held_out)
    errors = [(answers(narrow, held_out) - wanted).square().mean()]
    done: list[int] = []
    found = reconstruct(narrow, module, rows, graph, kept, ridge, done.append)
    assert [one["name"] for one in found] == ["inner", "outer", "line", "head"]
    assert done == list(range(1, 6)) and all(one["after"] <= one["before"] for one in found)
    return [*errors, (answers(narrow, held_out) - wanted).square().mean()]


def test_channels_that_others_tell_as_well_cost_nothing(module: nn.Module) -> None:
    """Where each removed channel is the twin of one that stays, the answers are the same."""
    rows = Images(300, 1)
    known = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for group in channel_graph(module, rows.feed([0, 1])).groups:
            for place in group.places:
                half, path = group.size // 2, place.tensor.rpartition(".")[0]
                first, second = (torch.from_numpy(one.reshape(-1)) for one in
                                 (place.indices[:half], place.indices[half:]))  # fmt: skip
                if place.axis == 0 and path != "head":
                    known[place.tensor][second] = known[place.tensor][first]
    before, after = fitted(module, rows, 20, ridge=1e-7)
    assert before > 1e-4 and after < 1e-5 * before


def test_answers_to_other_images_come_nearer(module: nn.Module) -> None:
    before, after = fitted(module, Images(200, 1), 50)
    assert after < 0.5 * before


def test_with_too_few_places_a_layer_stays_as_it_is(module: nn.Module) -> None:
    rows = Images(2, 1)
    graph = channel_graph(module, rows.feed([0, 1]))
    narrow, kept = halved(module, graph)
    before = {name: one.clone() for name, one in narrow.state_dict().items()}
    names = [one["name"] for one in reconstruct(narrow, module, rows, graph, kept, 0.0, print)]
    assert names == ["inner", "outer"]
    changed = [name for name, one in narrow.state_dict().items() if not one.equal(before[name])]
    assert changed == ["inner.weight", "inner.bias", "outer.weight"]
