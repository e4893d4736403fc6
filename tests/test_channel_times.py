"""Channels are cut to a time: few cuts are timed, and what is found is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_channels import opened
from weighed import Weighed

from edgecompress.errors import StageError
from edgecompress.stage import stage_class
from edgecompress.surgery.model import load_module
from edgecompress.training.channel_search import CUTS, share_in_time

LEAST = 0.05


@pytest.mark.parametrize("bound", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    "time",
    [
        lambda share: share,
        lambda share: 0.2 + 0.8 * share,  # what a call costs however narrow the model is
        lambda share: share**2,
        lambda share: round(8 * share) / 8,  # blocks
    ],
)
def test_few_cuts_find_the_largest_that_is_fast_enough(
    bound: float, time: Callable[[float], float]
) -> None:
    asked: list[float] = []

    def measured(share: float) -> tuple[float, float]:
        asked.append(share)
        left = int(40 * share) / 40  # so wide are the blocks that go
        return left, time(left)

    share, times = share_in_time(bound, LEAST, measured)
    assert len(asked) <= CUTS and min(asked) >= LEAST
    assert times[share] == time(share) <= bound
    assert all(time(other) > bound for other in times if other > share)
    assert time(share) >= 0.9 * bound or time(share + 0.1) > bound


def test_a_time_that_no_cut_has_says_what_the_fastest_takes() -> None:
    with pytest.raises(StageError, match=r"latency of 0\.2 .* the fastest cut takes 0\.43 of it"):
        share_in_time(0.2, LEAST, lambda share: (share, 0.4 + 0.6 * share))


def test_a_network_is_cut_to_a_time_in_the_form_it_will_run_in(tmp_path: Path) -> None:
    candidate, context = opened("ResNet", tmp_path)
    machine = Weighed()
    there = replace(context, targets={"local": machine})
    stage = stage_class("prune.channels")(
        target={"latency": 0.6}, samples=8, importance="magnitude", multiple_of=4
    )
    made = stage.apply(candidate, there)
    step = made.steps[-1]
    told = step.measured["time_by_macs"]
    assert 1 <= len(told) <= CUTS
    within = [macs for macs, time in told if time <= 0.6]
    assert step.decisions["left"]["macs"] == max(within)
    whole, narrow = (
        sum(one.numel() for one in load_module(each.model).parameters())
        for each in (candidate, made)
    )
    assert 0.4 < narrow / whole < 0.65  # here a graph's time is the number of its weights
    again, timed = replace(there, folder=tmp_path / "again"), len(machine.timed)
    again.folder.mkdir()
    replayed = stage.apply(candidate, again, step.decisions)
    assert replayed.steps[-1].decisions == step.decisions
    assert len(machine.timed) == timed  # nothing was timed again
