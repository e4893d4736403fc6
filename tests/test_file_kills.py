"""A few of the kills and full disks of ``benchmarks/kill_commands.py``, seeded."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_kills import Command, kill_once, learn, preload
from full_disks import can_mount, fill_once
from killed_commands import commands

SAMPLED = (
    *("quantize", "bundle pack over another", "bundle unpack over another", "bundle sign"),
    "reproduce into a store",
)
FILLED = ("quantize", "bundle unpack over another")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    """The commands, each run once to its end."""
    folder = tmp_path_factory.mktemp("kills")
    preload(torch=False)
    found = {one.name: one for one in commands(folder / "inputs", torch=False)}
    for name in SAMPLED:
        learn(found[name], folder / "try")
    return found


@pytest.mark.parametrize("name", SAMPLED)
def test_a_kill_leaves_nothing_half_written_and_the_next_run_is_right(
    known: dict[str, Command], name: str, tmp_path: Path
) -> None:
    hits = [kill_once(known[name], seed, tmp_path / "try").hit for seed in range(3)]
    assert any(hits)


@pytest.mark.skipif(not can_mount(), reason="mounting a small disk needs root")
@pytest.mark.parametrize("name", FILLED)
def test_a_disk_that_fills_up_is_told_and_loses_nothing(
    known: dict[str, Command], name: str, tmp_path: Path
) -> None:
    found = [fill_once(known[name], seed, tmp_path / "try").full for seed in range(3)]
    assert any(found)
