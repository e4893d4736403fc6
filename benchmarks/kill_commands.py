"""Kills at file-system events, over `run` and every command that writes: nothing half-written.

Run ``python benchmarks/kill_commands.py --kills 25`` (as many kills of each command). Each kill
meets the command at an event that its seed chooses; then all that can be seen must be whole, the
same command must succeed with the same result, and what was left must be gone. With ``--disks`` the
disks are full in place of the kills.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@click.command(help=__doc__)
@click.option("--kills", default=25, show_default=True, help="Of each command.")
@click.option("--first-seed", default=100, show_default=True)
@click.option("--disks", is_flag=True, help="Full disks in place of kills; needs root.")
@click.option("--command", "wanted", multiple=True, help="This command only (repeatable).")
def main(kills: int, first_seed: int, disks: bool, wanted: tuple[str, ...]) -> None:
    """Kill, check, count."""
    from file_kills import kill_once, learn, preload  # type: ignore[import-not-found]
    from full_disks import fill_once  # type: ignore[import-not-found]
    from killed_commands import commands  # type: ignore[import-not-found]

    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        place = Path(name)
        found = [one for one in commands(place / "inputs") if not wanted or one.name in wanted]
        preload(torch=any(one.torch for one in found))
        for command in found:
            learn(command, place / "try")
            print(f"{command.name}: {command.events[0]} events", flush=True)
            start = time.monotonic()
            for seed in range(first_seed, first_seed + kills):
                if disks:
                    filled = fill_once(command, seed, place / "try")
                    counts[command.name, "full" if filled.full else "room"] += 1
                    continue
                one = kill_once(command, seed, place / "try")
                counts[command.name, "hit"] += one.hit
                counts[command.name, one.seen] += one.hit
                counts[command.name, "left"] += bool(one.leftovers)
            print(f"{command.name}: {time.monotonic() - start:.0f} s", flush=True)
    if disks:
        print("\n| command | disks | full: told, exit code 1 | room enough: success |")
        print("|---|---|---|---|")
        for command in found:
            full, room = counts[command.name, "full"], counts[command.name, "room"]
            print(f"| {command.name} | {full + room} | {full} | {room} |")
        return
    print("\n| command | events | kills | output then: none | whole | left something to sweep |")
    print("|---|---|---|---|---|---|")
    for command in found:
        row = [counts[command.name, what] for what in ("hit", "nothing", "the whole", "left")]
        print(f"| {command.name} | {command.events[0]} | {' | '.join(map(str, row))} |")
    total = sum(counts[command.name, "hit"] for command in found)
    print(f"\n{total} kills: nothing half-written was seen, every next run gave the right result.")


if __name__ == "__main__":
    main()
