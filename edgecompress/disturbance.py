"""What surrounded a timing loop, and when that makes its readings worthless.

The thresholds (`Rules`) are generous, as an invalid number leaves a budget undecided: they are to
catch what would change a decision, not what any shared machine does. Every reason says what to do.
The habit is that of MLCommons LoadGen: minimum duration, VALID or INVALID with a recommendation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds beyond which a reading is marked invalid.

    Attributes
    ----------
    min_duration_ms : float
        Floor for the whole loop, whatever the job asked: shorter loops fall into one scheduler
        or frequency period.
    max_drift : float
        How far the median of the last third may lie from that of the first (share).
    max_ratio_drift : float
        The same for a ratio of interleaved pairs, which a common slowdown leaves alone.
    min_cpu_share, min_tail_cpu_share, min_ratio_cpu_share : float
        Share of wall time in which the process had its core (one thread): for a median, for p90
        and p99 (which see every interruption), and for a ratio (both models share the loss).
    max_other_load : float
        With several threads: cores that others keep busy beyond those left free.
    max_steal : float
        Share of the machine's time that the hypervisor gave to others.
    min_frequency : float
        Clock frequency after the loop over that before it.
    min_base_frequency : float
        Lowest clock frequency seen during the loop over the processor's base frequency, below
        which it falls only when it is throttled or told to.
    any_governor : bool
        Whether a governor that changes the clock by itself is accepted.
    min_pairs : int
        Interleaved pairs behind a ratio.
    """

    min_duration_ms: float = 100.0
    max_drift: float = 0.30
    max_ratio_drift: float = 0.20
    min_cpu_share: float = 0.70
    min_tail_cpu_share: float = 0.85
    min_ratio_cpu_share: float = 0.40
    max_other_load: float = 0.5
    max_steal: float = 0.20
    min_frequency: float = 0.70
    min_base_frequency: float = 0.95
    any_governor: bool = False
    min_pairs: int = 30


RULES = Rules()
EMULATED = "emulated: wall time and memory mean nothing here; measure on a real machine"
STEADY_GOVERNORS = frozenset({"performance", "userspace"})
"""Governors of Linux that leave the clock alone while a model runs."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What surrounded the readings of one timing loop; None where it could not be read.

    Attributes
    ----------
    duration_ms, wanted_ms : float
        How long the loop ran, and the minimum that was asked.
    threads : int
    cpu_share : float or None
        CPU time of the process over wall time.
    other_load : float or None
        Of the cores that the process may use, those that others kept busy beyond the ones that
        the loop left free; 0 where they found room there.
    steal_share : float or None
        Share of these cores' time that the hypervisor gave to others.
    frequency : float or None
        Clock frequency after the loop over that before it.
    base_frequency : float or None
        Lowest clock frequency seen during the loop over the processor's base frequency.
    governor : str or None
        Frequency governor.
    throttled : str or None
        Sign of throttling, in words.
    emulated : bool
        True where wall time means nothing.
    """

    duration_ms: float
    wanted_ms: float = 0.0
    threads: int = 1
    cpu_share: float | None = None
    other_load: float | None = None
    steal_share: float | None = None
    frequency: float | None = None
    base_frequency: float | None = None
    governor: str | None = None
    throttled: str | None = None
    emulated: bool = False


def loop_from_states(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    duration_ms: float,
    wanted_ms: float,
    threads: int,
    cores: int,
    frequencies_mhz: Sequence[float] = (),
    emulated: bool = False,
) -> Loop:
    """Read the loop's surroundings off the agent's two machine states.

    Parameters
    ----------
    before, after : mapping
        As `edgecompress.targets.agent.sensors.machine_state` gives them.
    duration_ms, wanted_ms : float
    threads : int
        Threads of the loop.
    cores : int
        Cores that the process may use.
    frequencies_mhz : sequence of float
        Clock frequencies seen during the loop.
    emulated : bool
        Whether the target is; the machine may say so itself.
    """
    wall = max(after["wall_ns"] - before["wall_ns"], 1)
    own = (after["process_ns"] - before["process_ns"]) / wall
    other = steal = None
    if before.get("busy_ticks") is not None and after.get("busy_ticks") is not None:
        seconds = wall / 1e9 * before["ticks_per_second"]
        busy = (after["busy_ticks"] - before["busy_ticks"]) / seconds
        other = max(0.0, busy - own - max(0, cores - threads))
        steal = (after["steal_ticks"] - before["steal_ticks"]) / seconds / max(cores, 1)
    frequency = None
    if before.get("frequency_mhz") and after.get("frequency_mhz"):
        frequency = after["frequency_mhz"] / before["frequency_mhz"]
    base = None
    seen = [*frequencies_mhz, *filter(None, [after.get("frequency_mhz")])]
    if seen and before.get("base_frequency_mhz"):
        base = min(seen) / before["base_frequency_mhz"]
    return Loop(
        duration_ms=duration_ms,
        wanted_ms=wanted_ms,
        threads=threads,
        cpu_share=own / threads,
        other_load=other,
        steal_share=steal,
        frequency=frequency,
        base_frequency=base,
        governor=before.get("governor"),
        throttled=_throttled(before, after),
        emulated=emulated or bool(before.get("emulated")),
    )


def _throttled(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    earlier, later = before.get("throttle_count"), after.get("throttle_count")
    if earlier is not None and later is not None and later > earlier:
        return "the processor reports thermal throttling"
    # Bits 0-3 of the Raspberry Pi firmware's get_throttled are "now", 16-19 the same "since boot":
    # one of these that is new says what happened in between.
    until = int(after.get("pi_throttled") or "0", 16)
    since = int(before.get("pi_throttled") or hex(until), 16)
    bits = ((since | until) & 0b1111) | (((until & ~since) >> 16) & 0b1111)
    if bits & 0b0001:
        return "the board reports under-voltage"
    if bits & 0b1110:
        return "the board reports throttling"
    for zone in (*before.get("zones", ()), *after.get("zones", ())):
        if zone.get("trip_c") is not None and zone["temperature_c"] >= zone["trip_c"]:
            return (
                f"{zone['type']} is at {zone['temperature_c']:.0f} °C, and {zone['trip_c']:.0f} °C "
                "is where the system slows it down"
            )
    return None


def disturbed(
    loop: Loop, *, cpu_share: float, drift: float, max_drift: float, rules: Rules, ratio: bool
) -> str | None:
    """Say why readings of a loop must not be trusted, and what to do; None when sound.

    Parameters
    ----------
    loop : Loop
    cpu_share : float
        The least that these readings bear.
    drift : float
        Last third over first third, minus 1.
    max_drift : float
        The most that these readings bear.
    rules : Rules
    ratio : bool
        For a ratio of interleaved pairs: what meets both models alike is left out.
    """
    wanted_ms = max(loop.wanted_ms, rules.min_duration_ms)
    if loop.emulated:
        return EMULATED
    if loop.duration_ms < wanted_ms:
        return f"too short: {loop.duration_ms:.0f} of {wanted_ms:.0f} ms; raise max_duration_ms"
    if abs(drift) > max_drift:
        return (
            f"drift: the last third is {drift:+.0%} against the first; let the machine rest, "
            "stop other work, measure again"
        )
    if loop.threads == 1 and loop.cpu_share is not None and loop.cpu_share < cpu_share:
        return (
            f"other load: the process had its core for {loop.cpu_share:.0%} of the time; "
            "stop other work, measure again"
        )
    if ratio:  # throttling and the like meet both models; the drift above has judged the rest
        return None
    if loop.throttled:
        return f"throttled: {loop.throttled}; cool the machine or mend its power, measure again"
    if loop.frequency is not None and loop.frequency < rules.min_frequency:
        return f"throttled: the clock fell to {loop.frequency:.0%}; set the governor performance"
    if loop.base_frequency is not None and loop.base_frequency < rules.min_base_frequency:
        return (
            f"throttled: the clock was at {loop.base_frequency:.0%} of the processor's base "
            "frequency; cool the machine or set the governor performance, measure again"
        )
    if loop.governor and loop.governor not in STEADY_GOVERNORS and not rules.any_governor:
        return (
            f"governor: {loop.governor} changes the clock while measuring; run `sudo cpupower "
            "frequency-set -g performance`, or accept it with any_governor"
        )
    if loop.steal_share is not None and loop.steal_share > rules.max_steal:
        return f"other load: the hypervisor took {loop.steal_share:.0%}; measure at a quieter time"
    if loop.threads > 1 and loop.other_load is not None and loop.other_load > rules.max_other_load:
        return f"other load: others keep {loop.other_load:.1f} of its cores busy; use fewer threads"
    return None


PASSING = ("drift", "meter", "other load", "throttled")
"""How the reasons begin that an equal machine with equal settings may be free of another time."""


def may_pass(reason: str | None) -> bool:
    """Whether measuring again, with nothing changed, may give a sound number."""
    return reason is not None and reason.startswith(PASSING)
