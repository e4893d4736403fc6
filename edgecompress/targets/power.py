"""Energy per inference, where a meter exists: of the machine itself, or one outside of it.

Without a meter there is no number: it is never worked out from anything else.
"""

from __future__ import annotations

import csv
import itertools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from edgecompress import timing
from edgecompress.errors import DataError
from edgecompress.reading import open_regular, reading
from edgecompress.targets.agent.energy import integrate
from edgecompress.targets.base import Feeds, Job, Readings
from edgecompress.targets.inputs import timing_feeds
from edgecompress.targets.probe import Probe, loop_of
from edgecompress.textfiles import stream_lines
from edgecompress.values import Json, Measurement

PASSES = 5
LEAST_SAMPLES = 8
"""Of a meter's power during the loop; fewer say nothing of its course."""
MOST_GAP = 0.25
"""Longest silence of a meter during the loop, as a share of it: what happened meanwhile is not
known."""
CLOCK_TOLERANCE_S = 0.5
"""How far a target's clock may differ from this machine's for a meter outside of it."""
MOST_READINGS = 1_000_000
"""That are kept of a file: a quarter of an hour of a meter that reads a thousand times a second."""
WAIT_S = 5.0
"""How long a file of a meter may lag behind."""
COUNTS = {
    "rapl": "the whole processor ({domains}), idle power and other programs included",
    "pmic": "the whole board as its power chip feeds it, idle power and other programs included",
}


@dataclass(frozen=True, slots=True)
class Counted:
    """What a meter counted over a loop, in joules; NaN where it did not see all of the loop."""

    meter: str
    counts: str
    joules: float = math.nan
    invalid: str | None = None


def read_power(file: Path) -> tuple[list[float], list[float]]:
    """Read the CSV of a power meter: epoch seconds and watts, one pair a line.

    A first line that is no pair of numbers is a heading. Further columns are left alone.

    Returns
    -------
    times_s, watts : list of float

    Raises
    ------
    DataError
        Naming file and line of what is wrong.
    """
    times: list[float] = []
    watts: list[float] = []
    if not file.exists():
        raise DataError(
            "there is no such file of a power meter; start the meter, or correct `meter`", file=file
        )
    try:
        with reading(file), open_regular(file) as stream:
            lines = (f"{line}\n" for line in stream_lines(stream, file))
            for number, row in enumerate(csv.reader(lines), 1):
                if len(times) > MOST_READINGS:  # only the last ones can be of the loop
                    del times[: MOST_READINGS // 2], watts[: MOST_READINGS // 2]
                try:
                    moment, power = (float(value) for value in row[:2])
                except ValueError:
                    if number == 1 or not "".join(row).strip():
                        continue
                    raise DataError(
                        "a line of a power meter is epoch seconds, watts", file=file, line=number
                    ) from None
                if not math.isfinite(moment) or not math.isfinite(power):
                    raise DataError(
                        "a reading that is no number; leave such lines out", file=file, line=number
                    )
                if times and moment < times[-1]:
                    raise DataError("the times must not fall", file=file, line=number)
                times.append(moment)
                watts.append(power)
    except csv.Error as error:
        raise DataError(f"the power meter's file cannot be read: {error}", file=file) from None
    return times, watts


def external(file: Path, start_s: float, end_s: float, wait_s: float = WAIT_S) -> Counted:
    """Integrate an external meter's file over a loop; waits a little for what is still to come.

    Parameters
    ----------
    file : Path
    start_s, end_s : float
        Of the loop, epoch seconds of this machine.
    wait_s : float
    """
    found = Counted(file.name, "what the external meter feeds, idle power included")
    patience = time.monotonic() + wait_s
    try:
        times, watts = read_power(file)
        while (not times or times[-1] < end_s) and time.monotonic() < patience:
            time.sleep(0.2)
            times, watts = read_power(file)
    except DataError as error:
        return replace(found, invalid=f"meter: {error}")
    if not times or times[0] > start_s or times[-1] < end_s:
        covered = f"{times[0]:.1f} to {times[-1]:.1f} s" if times else "nothing"
        return replace(
            found,
            invalid=(
                f"meter: {file} covers {covered}, and the loop ran from {start_s:.1f} to "
                f"{end_s:.1f} s; let the meter write all the while, measure again"
            ),
        )
    within = [moment for moment in times if start_s <= moment <= end_s]
    if len(within) < LEAST_SAMPLES:
        return replace(found, invalid=_few(len(within)))
    steps = itertools.pairwise([start_s, *within, end_s])
    gap = max(later - earlier for earlier, later in steps)
    if gap > MOST_GAP * (end_s - start_s):
        return replace(
            found,
            invalid=(
                f"meter: {file} has a gap of {gap:.1f} s in the loop of {end_s - start_s:.1f} s; "
                "let the meter write all the while, measure again"
            ),
        )
    return replace(found, joules=integrate(times, watts, start_s, end_s))


def _few(count: int) -> str:
    return (
        f"too few readings: {count} of {LEAST_SAMPLES} of the power meter during the loop; raise "
        "min_duration_ms or let it read more often"
    )


@dataclass(frozen=True, eq=False)
class Energy(Probe):
    """Measure ``energy`` per inference (mJ), the candidate running alone in a loop of its own.

    Nothing where there is no meter; NaN and the reason where one did not see all of the loop.

    Parameters
    ----------
    meter : Path, optional
        CSV of an external power meter on this machine; it is preferred.
    """

    meter: Path | None = None

    needs: ClassVar[str] = "energy"

    def measure(self) -> tuple[Measurement, ...]:
        """Ask where there is a meter."""
        if self.meter is None and not self.target.describe().get("meters"):
            return ()
        return super().measure()

    def feeds(self) -> tuple[Feeds, str]:
        """Give inputs that are each run a few times."""
        wanted = -(-self.clock.min_count // PASSES)
        feeds, timed = timing_feeds([self.candidate], self.examples, wanted, self.inputs)
        return feeds[0], self.inputs.source(timed)

    def job(self, feeds: Feeds) -> Job:
        """Make the job, which reads the meters."""
        return replace(super().job(feeds), energy=True)

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:  # noqa: ARG002
        """Share what the meter counted among the inferences."""
        name, loop = self.target.name, loop_of(readings, self.target.name)
        found = _counted(readings, self.meter)
        if found is None:
            return ()
        disturbance = timing.spoiled(readings.series[0], loop, 0.5, self.rules)
        invalid = disturbance if loop.emulated else found.invalid or disturbance
        if not math.isfinite(found.joules):
            return (timing.not_measured("energy", "mJ", str(invalid), name),)
        count = len(readings.series[0].ns)
        seconds = max(readings.energy["end_s"] - readings.energy["start_s"], 1e-9)
        conditions: Json = {
            "meter": found.meter,
            "counts": found.counts,
            "watts": round(found.joules / seconds, 3),
            "duration_ms": round(loop.duration_ms),
            "threads": self.clock.threads,
            "batch": 1,
            "source": source,
            "alone": True,
        }
        value = found.joules / max(count, 1) * 1e3
        measured = Measurement(
            "energy", value, "mJ", name, samples=count, invalid=invalid, conditions=conditions
        )
        return (measured,)


def _counted(readings: Readings, meter: Path | None) -> Counted | None:
    """Choose the meter that sees most: one outside, the board's own, the processor's."""
    start, end = float(readings.energy["start_s"]), float(readings.energy["end_s"])
    if meter is not None:
        began_s, ended_s = readings.asked_s
        off = max(end - ended_s, began_s - start)  # the loop lies within what its job took
        if off > CLOCK_TOLERANCE_S:
            return Counted(
                meter.name,
                "what the external meter feeds, idle power included",
                invalid=(
                    f"meter: the target's clock differs from this machine's by {off:.1f} s "
                    "or more; set both by network time, measure again"
                ),
            )
        return external(meter, start, end)
    found: dict[str, Any] = readings.energy["meters"]
    for name in ("pmic", "rapl"):
        if name in found:
            counts = COUNTS[name].format(domains=", ".join(found[name].get("domains", ())))
            few = found[name].get("samples", LEAST_SAMPLES)
            invalid = _few(few) if few < LEAST_SAMPLES else None
            return Counted(name, counts, float(found[name]["joules"]), invalid)
    return None
