"""Runs commands on disks that fill up at seeded moments; needs root, for it mounts them.

`tests/test_file_kills.py` does it a few times, `benchmarks/kill_commands.py --disks` many.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from file_kills import Command, lay_out, leftovers, remove, run, said

PLACES = ("all", "tmp", "store")
"""What is small: the whole folder of a try, or only its temporary folder or its store."""


@dataclass(frozen=True)
class Filled:
    """What a small disk did: `full` is False where the command found room enough."""

    command: str
    place: str
    size: int
    full: bool


def fill_once(command: Command, seed: int, folder: Path) -> Filled:
    """Run a command on a small disk, then make the disk large and run it again.

    Raises
    ------
    AssertionError
        When it ends in another way than with success or the sentence about the disk and exit
        code 1, when something half-written can be seen, or when the second run gives something
        else.
    """
    chance = random.Random(f"{command.name} {seed}")
    place = chance.choice(PLACES)
    size = int(2 ** chance.uniform(13, 20))
    lay_out(command, folder)
    where = folder / place if place != "all" else folder
    where.mkdir(exist_ok=True)
    what = f"{command.name}, seed {seed}, {size} bytes for {place}"
    options = f"size=200m,mode=0{where.stat().st_mode & 0o777:o}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True)
    try:
        if place == "all":
            (folder / "tmp").mkdir()
            if command.prepare:
                command.prepare(folder)
        disk = os.statvfs(where)  # what is there already fits; so much more does
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + size}", where], check=True)
        status, _ = run(command, folder, None)
        told = said(folder)
        assert status in (0, 1), f"{what}: exit code {status}: {told}"
        if status == 1:
            assert "nothing more can be written to" in told or "make room" in told, (
                f"{what}: {told}"
            )
            assert "Traceback" not in told, f"{what}: {told}"
        for name in command.outputs:
            if (folder / name).exists():
                found = command.describe(folder / name)
                before = command.expected.get(f"before {name}")
                assert found in (command.expected[name], before), f"{what}: {name} is not whole"
                if status == 0 and command.single:
                    remove(folder / name)
        subprocess.run(["mount", "-o", "remount,size=200m", where], check=True)
        again, _ = run(command, folder, None)
        assert again == 0, f"{what}: the next run failed: {said(folder)}"
        for name in command.outputs:
            found = command.describe(folder / name)
            assert found == command.expected[name], f"{what}: the next run gave something else"
        rest = leftovers(folder)
        assert not rest, f"{what}: left behind: {rest}"
    finally:
        subprocess.run(["umount", "-l", where], check=True)
    return Filled(command.name, place, size, status == 1)


def can_mount() -> bool:
    """Whether this user may mount disks."""
    return os.geteuid() == 0
