"""Kills during jobs over SSH: no wrong number, no hang past the timeouts, no litter.

Run ``python benchmarks/kills.py`` (needs the Debian package openssh-server): a real sshd on
loopback stands for the board. Each kill meets server, session, helper process, agent or client at a
moment that its seed chooses; then the same job is run again and must succeed.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@click.command(help=__doc__)
@click.option("--kills", default=50, show_default=True)
@click.option("--first-seed", default=100, show_default=True)
def main(kills: int, first_seed: int) -> None:
    """Kill, check, count."""
    from board_kills import (  # type: ignore[import-not-found]
        expected_answers,
        kill_once,
        make_model,
    )
    from boards import sshd  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as place, sshd(Path(place) / "board") as server:
        model = make_model(Path(place) / "model")
        expected = expected_answers(model, Path(place) / "expected")
        counts: Counter[tuple[str, str]] = Counter()
        longest_s = 0.0
        for seed in range(first_seed, first_seed + kills):
            found = kill_once(server, seed, model, expected, Path(place) / "jobs")
            ending = "told" if found.said else "right"
            counts[found.victim, ending] += 1
            longest_s = max(longest_s, found.seconds)
            print(
                f"{seed}  {found.victim:8} {found.mode:8} after {found.delay_s:.2f} s  "
                f"{found.seconds:5.1f} s  {found.said or 'right result'}",
                flush=True,
            )
    print("\n| killed | said so | right result all the same |\n|---|---|---|")
    for victim in sorted({name for name, _ in counts}):
        print(f"| {victim} | {counts[victim, 'told']} | {counts[victim, 'right']} |")
    print(
        f"\n{kills} kills: no wrong number, no process and no file left behind, every next run "
        f"succeeded; the longest run took {longest_s:.0f} s."
    )


if __name__ == "__main__":
    main()
