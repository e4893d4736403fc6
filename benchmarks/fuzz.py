"""Hostile recipes, settings, data, arrays, images and models: what the command line says to each.

Run ``python benchmarks/fuzz.py --inputs 10000`` or ``--minutes 30``. Every input must end with one
clear sentence that names what is wrong (or go through), an exit code of the house, within 20 s and
1 GB, and nothing outside its own files may be read or written. The same seed makes the same inputs;
faults are printed with the seed that makes them again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@click.command(help=__doc__)
@click.option("--inputs", type=int, default=1000, show_default=True, help="How many, all kinds.")
@click.option("--minutes", type=float, help="In place of --inputs: how long.")
@click.option("--kind", "kinds", multiple=True, help="Only these kinds (repeatable).")
@click.option("--seed", default=0, show_default=True, help="The first seed of every kind.")
@click.option("--jobs", default=1, show_default=True, help="Servers that answer at once.")
@click.option(
    "--alone", default=100, show_default=True, help="Every so many, also try a process of its own."
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the files of faults here.")
def main(
    inputs: int,
    minutes: float | None,
    kinds: tuple[str, ...],
    seed: int,
    jobs: int,
    alone: int,
    keep: Path | None,
) -> None:
    """Try, judge, count."""
    from fuzzing import (  # type: ignore[import-not-found]
        generators,
        make_case,
    )
    from fuzzing import judge as judging
    from fuzzing.stock import Stock  # type: ignore[import-not-found]

    chosen = kinds or tuple(generators())
    for kind in chosen:
        if kind not in generators():
            raise click.UsageError(f"no kind {kind!r}; there are {', '.join(generators())}")
    tried: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    codes: Counter[tuple[str, int]] = Counter()
    peaks: dict[str, int] = {}
    longest: dict[str, float] = {}
    until = time.monotonic() + (minutes or 1e9) * 60

    with judging.scratch() as place:
        (place / "stock").mkdir()
        stock = Stock(place / "stock")

        def work(job: int) -> None:
            server = judging.Server(place / f"home{job}")
            try:
                for number in range(job, 10**9 if minutes else inputs, jobs):
                    if time.monotonic() > until:
                        return
                    try_one(server, number, job)
            finally:
                server.close()

        def try_one(server: judging.Server, number: int, job: int) -> None:
            kind, own = chosen[number % len(chosen)], seed + number // len(chosen)
            folder = place / f"{kind}-{own}"
            case = make_case(kind, own, folder, stock)
            outcome = server.try_case(case, folder)
            wrong = judging.faults(case, outcome)
            if alone and number % alone == 0:
                shutil.rmtree(folder / "out", ignore_errors=True)
                outcome_alone = judging.alone(case, folder, place / f"home{job}")
                wrong += [f"{name}, alone" for name in judging.faults(case, outcome_alone)]
            tried[kind] += 1
            codes[kind, outcome.code] += 1
            peaks[kind] = max(peaks.get(kind, 0), outcome.peak_bytes)
            longest[kind] = max(longest.get(kind, 0.0), outcome.seconds)
            for name in wrong:
                found[kind, name] += 1
            if wrong:
                said = outcome.message.strip().splitlines() or [""]
                print(json.dumps({
                    "kind": kind, "seed": own, "faults": wrong, "code": outcome.code,
                    "told": case.told[:120], "arguments": " ".join(case.arguments)[:160],
                    "said": said[-1][:300], "seconds": round(outcome.seconds, 1),
                    "peak_mb": outcome.peak_bytes >> 20,
                }), flush=True)  # fmt: skip
                if keep is not None:
                    (keep / f"{kind}-{own}.txt").parent.mkdir(parents=True, exist_ok=True)
                    (keep / f"{kind}-{own}.txt").write_text(
                        f"{case}\n{outcome.out}\n{outcome.err}", encoding="utf-8", errors="replace"
                    )
            shutil.rmtree(folder, ignore_errors=True)
            for left in (place / f"home{job}" / "tmp").iterdir():
                shutil.rmtree(left, ignore_errors=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, range(jobs)))

    _table(tried, found, codes, peaks, longest)
    raise SystemExit(1 if found else 0)


def _table(
    tried: Counter[str],
    found: Counter[tuple[str, str]],
    codes: Counter[tuple[str, int]],
    peaks: dict[str, int],
    longest: dict[str, float],
) -> None:
    """Print what came of each kind."""
    print("\n| kind | inputs | accepted | refused | tracebacks | memory | late | unclear | most MB "
          "| longest s |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for kind in sorted(tried):
        mine = {name: count for (of, name), count in found.items() if of == kind}
        tracebacks = sum(n for name, n in mine.items() if name.startswith(("traceback", "exit")))
        memory, late = mine.get("memory", 0), mine.get("late", 0)
        unclear = sum(mine.values()) - tracebacks - memory - late
        accepted = sum(n for (of, code), n in codes.items() if of == kind and code in (0, 3, 4))
        cells = (kind, tried[kind], accepted, tried[kind] - accepted, tracebacks, memory, late,
                 unclear, peaks[kind] >> 20, f"{longest[kind]:.1f}")  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")
    ended: Counter[int] = Counter()
    for (_, code), count in codes.items():
        ended[code] += count
    listed = ", ".join(f"{code}: {count}" for code, count in sorted(ended.items()))
    print(f"\n{sum(tried.values())} inputs, {sum(found.values())} faults; exit codes {listed}")
    for (kind, name), count in found.most_common():
        print(f"  {kind}: {name}: {count}")


if __name__ == "__main__":
    main()
