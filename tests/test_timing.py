"""Timing rules: intervals that cover, ratios that a slow machine leaves alone, honest refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgecompress.disturbance import RULES, Loop, loop_from_states, may_pass
from edgecompress.intervals import dispersion, interval_ranks, needed
from edgecompress.timing import (
    BIN,
    Series,
    histogram,
    latencies,
    median_of_starts,
    percentile,
    speedup,
    spoiled,
    throughput,
)

QUIET = Loop(duration_ms=2000.0, wanted_ms=2000.0, threads=1, cpu_share=0.99, steal_share=0.0)

BAD_LOOPS = {
    "emulated": replace(QUIET, emulated=True),
    "too short": replace(QUIET, duration_ms=1500.0),
    "too short even for a job that asked for less": replace(QUIET, duration_ms=9.0, wanted_ms=5.0),
    "without its core": replace(QUIET, cpu_share=0.5),
    "throttled": replace(QUIET, throttled="the processor reports thermal throttling"),
    "clock fell": replace(QUIET, frequency=0.5),
    "clock under its base": replace(QUIET, base_frequency=0.8),
    "a governor that changes the clock": replace(QUIET, governor="ondemand"),
    "stolen": replace(QUIET, steal_share=0.4),
    "others on its cores": replace(QUIET, threads=2, other_load=1.0),
}

readings = arrays(np.int64, st.integers(1, 800), elements=st.integers(1, 10**9))


def series(ns: object, inputs: int = 1) -> Series:
    values = np.asarray(ns, dtype=np.int64)
    return Series(values, np.arange(len(values)) % inputs)


def binomial_mass(count: int, quantile: float, low: int, high: int) -> float:
    """P(low < number of readings below the quantile <= high), worked out with big integers."""
    return sum(
        math.comb(count, k) * quantile**k * (1 - quantile) ** (count - k)
        for k in range(low + 1, high + 1)
    )


@given(st.integers(1, 900), st.sampled_from((0.5, 0.9, 0.99)))
def test_order_statistics_cover_95_percent(count: int, quantile: float) -> None:
    ranks = interval_ranks(count, quantile)
    if ranks is None:
        assert count < needed(quantile)
        return
    low, high = ranks
    assert count >= needed(quantile)
    assert 0 <= low <= math.ceil(quantile * count) - 1 <= high < count
    assert binomial_mass(count, quantile, low, high) >= 0.95 - 1e-9


def test_intervals_cover_the_median_of_readings_that_hang_together() -> None:
    """Nine in ten of many simulated loops, whether neighbours are alike or not."""
    generator = np.random.default_rng(11)
    for likeness in (0.0, 0.9):
        held = 0
        for _ in range(200):
            noise = generator.normal(0, 1, 2000)
            for index in range(1, 2000):
                noise[index] = likeness * noise[index - 1] + noise[index]
            ns = (1e6 + 2e4 * noise).astype(np.int64)  # its median is 1 ms
            found = percentile(series(ns), QUIET, 0.5, metric="latency_p50", target="local")
            assert found.interval is not None
            held += found.interval[0] <= 1 <= found.interval[1]
        assert held >= 180


@given(readings, st.sampled_from((0.5, 0.9, 0.99)))
def test_dispersion_is_at_least_that_of_independent_readings(ns: np.ndarray, q: float) -> None:
    assert dispersion(ns, q) >= 1


def test_fewest_readings() -> None:
    assert [needed(q) for q in (0.5, 0.9, 0.99)] == [6, 36, 368]


@given(readings)
def test_percentiles_rise_and_lie_in_their_intervals(ns: np.ndarray) -> None:
    found = latencies(series(ns), QUIET, target="local")
    assert [m.metric for m in found] == ["latency_p50", "latency_p90", "latency_p99"]
    values = [m.value for m in found]
    assert values == sorted(values)
    for measurement in found:
        assert ns.min() / 1e6 <= measurement.value <= ns.max() / 1e6
        assert measurement.unit == "ms"
        assert measurement.samples == len(ns)
        if measurement.interval is None:
            assert measurement.invalid
        else:
            assert measurement.interval[0] <= measurement.value <= measurement.interval[1]


@given(readings, st.sampled_from(sorted(BAD_LOOPS)))
def test_a_bad_loop_never_gives_a_valid_latency(ns: np.ndarray, kind: str) -> None:
    for measurement in latencies(series(ns), BAD_LOOPS[kind], target="local"):
        assert measurement.invalid


@given(readings, st.sampled_from(("emulated", "too short")))
def test_what_makes_a_ratio_invalid(ns: np.ndarray, kind: str) -> None:
    assert speedup(series(ns), series(ns), BAD_LOOPS[kind], target="local").invalid


@pytest.mark.parametrize("kind", sorted(BAD_LOOPS))
def test_reasons_say_what_to_do(kind: str) -> None:
    reason = spoiled(series(np.full(400, 10**6)), BAD_LOOPS[kind], 0.5)
    assert reason is not None
    assert ";" in reason


def test_a_governor_can_be_accepted() -> None:
    ns = series(np.full(400, 10**6))
    tolerant = replace(RULES, any_governor=True)
    for governor in ("ondemand", "powersave", "schedutil"):
        loop = replace(QUIET, governor=governor)
        assert "cpupower frequency-set -g performance" in str(spoiled(ns, loop, 0.5))
        assert spoiled(ns, loop, 0.5, tolerant) is None
    for governor in ("performance", "userspace", None):
        assert spoiled(ns, replace(QUIET, governor=governor), 0.5) is None


def test_reasons_that_may_be_gone_at_another_time() -> None:
    passing = {kind for kind, loop in BAD_LOOPS.items()
               if may_pass(spoiled(series(np.full(400, 10**6)), loop, 0.5))}  # fmt: skip
    lasting = {"emulated", "a governor that changes the clock"}
    lasting |= {"too short", "too short even for a job that asked for less"}
    assert passing == set(BAD_LOOPS) - lasting
    assert not may_pass(None)


def test_a_quiet_loop_is_valid() -> None:
    generator = np.random.default_rng(0)
    ns = generator.normal(5e6, 2e5, 400).astype(np.int64)
    found = latencies(series(ns, 100), QUIET, target="local", conditions={"threads": 1})
    assert [m.invalid for m in found] == [None] * 3
    assert found[0].value == pytest.approx(5, rel=0.02)
    assert [m.conditions["threads"] for m in found] == [1] * 3
    assert ["distribution" in m.conditions for m in found] == [True, False, False]


def test_an_ordinary_shared_machine_is_still_valid() -> None:
    """One spike in twenty readings, a tenth of drift, a core lost for a tenth of the time."""
    generator = np.random.default_rng(1)
    ns = generator.normal(5e6, 2e5, 400) * np.linspace(1, 1.1, 400)
    ns[::20] *= 4
    loop = replace(QUIET, cpu_share=0.9, frequency=0.95, steal_share=0.05, other_load=1.0)
    assert [m.invalid for m in latencies(series(ns, 100), loop, target="local")] == [None] * 3


def test_medians_bear_more_than_tails() -> None:
    ns = np.full(400, 10**6)
    found = latencies(series(ns), replace(QUIET, cpu_share=0.8), target="local")
    assert [bool(m.invalid) for m in found] == [False, True, True]


def test_drift_is_named() -> None:
    ns = np.repeat([10**6, 2 * 10**6], 200)
    found = percentile(series(ns, 100), QUIET, 0.5, metric="latency_p50", target="local")
    assert found.invalid is not None
    assert "+100%" in found.invalid


def test_inputs_of_differing_length_are_no_drift() -> None:
    """Each input is held against its own median: sorted lengths must not look like drift."""
    per_input = np.linspace(1e6, 9e6, 50)
    assert spoiled(Series(np.tile(per_input, 2), np.tile(np.arange(50), 2)), QUIET, 0.5) is None


def test_too_few_readings_for_a_tail() -> None:
    found = latencies(series(np.full(100, 10**6)), QUIET, target="local")
    assert [bool(m.invalid) for m in found] == [False, False, True]
    assert "p99 needs 368" in str(found[2].invalid)


def test_no_reading_at_all() -> None:
    found = percentile(series([]), QUIET, 0.5, metric="latency_p50", target="local")
    assert found.invalid
    assert math.isnan(found.value)


@given(readings, st.integers(1, 60), st.integers(2, 9))
@settings(deadline=None)
def test_a_ratio_is_exact_where_it_is_known(ns: np.ndarray, inputs: int, factor: int) -> None:
    fast = series(ns, inputs)
    assert speedup(fast, fast, QUIET, target="local").value == 1
    found = speedup(Series(fast.ns * factor, fast.items), fast, QUIET, target="local")
    assert found.value == pytest.approx(factor)
    assert found.interval == pytest.approx((factor, factor))
    assert bool(found.invalid) == (len(ns) < RULES.min_pairs)


@given(readings, readings, st.integers(1, 60))
@settings(deadline=None)
def test_a_ratio_lies_in_its_interval(a: np.ndarray, b: np.ndarray, inputs: int) -> None:
    count = min(len(a), len(b))
    slow, fast = series(a[:count], inputs), series(b[:count], inputs)
    found = speedup(slow, fast, QUIET, target="local")
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found == speedup(slow, fast, QUIET, target="local")
    back = speedup(fast, slow, QUIET, target="local")
    assert back.value * found.value == pytest.approx(1)


def test_a_machine_that_slows_down_leaves_the_ratio_alone() -> None:
    generator = np.random.default_rng(2)
    slower = np.linspace(1, 3, 400)
    fast = series(generator.normal(2e6, 5e4, 400) * slower, 100)
    slow = series(generator.normal(6e6, 5e4, 400) * slower, 100)
    found = speedup(slow, fast, replace(QUIET, frequency=0.4, cpu_share=0.6), target="local")
    assert found.invalid is None
    assert found.value == pytest.approx(3, rel=0.02)
    assert latencies(fast, QUIET, target="local")[0].invalid


def test_a_model_that_slows_down_alone_spoils_the_ratio() -> None:
    steady = series(np.full(400, 6 * 10**6), 100)
    slowing = series(np.linspace(2e6, 4e6, 400), 100)
    assert "drift" in str(speedup(steady, slowing, QUIET, target="local").invalid)


def test_spikes_do_not_move_a_ratio() -> None:
    fast = np.full(400, 2 * 10**6)
    fast[np.random.default_rng(3).choice(400, 20, replace=False)] *= 50
    slow = np.full(400, 6 * 10**6)
    value = speedup(series(slow, 100), series(fast, 100), QUIET, target="local").value
    assert value == pytest.approx(3, rel=0.1)


def test_a_ratio_needs_one_loop() -> None:
    with pytest.raises(ValueError, match="one interleaved loop"):
        speedup(series(np.ones(40), 4), series(np.ones(40), 5), QUIET, target="local")


def test_a_ratio_of_nothing() -> None:
    assert speedup(series([]), series([]), QUIET, target="local").invalid
    assert speedup(series([5] * 40), series([0] * 40), QUIET, target="local").invalid


def test_starts() -> None:
    found = median_of_starts("load_time", [3.0, 1.0, 2.0], "ms", target="local")
    assert (found.value, found.samples, found.invalid) == (2.0, 3, None)
    assert found.conditions["starts"] == [3.0, 1.0, 2.0]
    assert median_of_starts("load_time", [], "ms", target="local").invalid


@given(st.lists(st.floats(0.1, 1e6), max_size=30))
def test_starts_have_an_interval_from_six_on(values: list[float]) -> None:
    found = median_of_starts("load_time", values, "ms", target="local")
    if len(values) < needed(0.5):
        assert found.interval is None
        assert f"{len(values)} starts" in found.conditions["interval"]
    else:
        assert found.interval is not None
        assert min(values) <= found.interval[0] <= found.value <= found.interval[1]


@given(readings, st.integers(1, 64))
@settings(deadline=None)
def test_throughput_is_examples_over_time(ns: np.ndarray, batch: int) -> None:
    found = throughput(series(ns), batch, QUIET, target="local")
    assert found.value == pytest.approx(len(ns) * batch / (ns.sum() / 1e9))
    assert (found.unit, found.slice, found.samples) == ("1/s", f"batch:{batch}", len(ns) * batch)
    assert found.interval is not None
    assert found.interval[0] <= found.value <= found.interval[1]
    assert found.invalid or len(ns) >= RULES.min_pairs


def test_throughput_interval_covers_what_is_known() -> None:
    """Nine in ten of many simulated loops hold the true rate in their 95 % interval."""
    generator, held = np.random.default_rng(5), 0
    for _ in range(100):
        ns = generator.gamma(20, 1e6, 300).astype(np.int64)  # 20 ms on average
        found = throughput(series(ns, 20), 8, QUIET, target="local")
        assert found.interval is not None
        held += found.interval[0] <= 400 <= found.interval[1]
    assert held >= 90


def test_throughput_of_nothing_and_of_a_bad_loop() -> None:
    assert throughput(series([]), 4, QUIET, target="local").invalid
    bad = throughput(series(np.full(99, 10**6)), 4, BAD_LOOPS["throttled"], target="local")
    assert str(bad.invalid).startswith("throttled")


def state(**fields: object) -> dict[str, object]:
    base: dict[str, object] = {"wall_ns": 0, "process_ns": 0, "ticks_per_second": 100}
    return base | fields


def test_a_loop_is_read_off_two_states() -> None:
    loop = loop_from_states(
        state(busy_ticks=1000, steal_ticks=10, frequency_mhz=2000.0, throttle_count=3.0),
        state(
            wall_ns=2 * 10**9,
            process_ns=10**9,
            busy_ticks=1400,
            steal_ticks=90,
            frequency_mhz=1000.0,
            throttle_count=4.0,
        ),
        duration_ms=2000.0,
        wanted_ms=2000.0,
        threads=1,
        cores=2,
    )
    assert loop.cpu_share == pytest.approx(0.5)
    assert loop.other_load == pytest.approx(0.5)  # others: 1.5 cores, and one was left free
    assert loop.steal_share == pytest.approx(0.2)
    assert loop.frequency == pytest.approx(0.5)
    assert loop.throttled


def test_others_that_found_room_are_no_load() -> None:
    """One busy thread on two cores, and nothing else: not minus one core."""
    quiet = loop_of(
        {"busy_ticks": 0, "steal_ticks": 0}, {"busy_ticks": 200, "steal_ticks": 0}, cores=2
    )
    assert quiet.other_load == 0
    full = {"busy_ticks": 400, "steal_ticks": 0}
    busy = loop_of({"busy_ticks": 0, "steal_ticks": 0}, full, cores=2, threads=2)
    assert busy.other_load == pytest.approx(1)


@given(st.integers(0, 10**4), st.integers(1, 8), st.integers(1, 8))
def test_a_load_is_never_negative(ticks: int, cores: int, threads: int) -> None:
    after = {"busy_ticks": ticks, "steal_ticks": 0}
    loop = loop_of({"busy_ticks": 0, "steal_ticks": 0}, after, cores=cores, threads=threads)
    assert loop.other_load is not None
    assert loop.other_load >= 0


@pytest.mark.parametrize(
    ("before", "firmware", "word"),
    [
        (None, "0x0", None),
        (None, "0x50000", None),
        (None, "0x50005", "under-voltage"),
        (None, "0x4", "throttling"),
        ("0x50000", "0x50000", None),  # that was earlier, since it was switched on
        ("0x0", "0x40000", "throttling"),  # and this during the loop
        ("0x1", "0x10000", "under-voltage"),
    ],
)
def test_the_raspberry_pi_says_what_it_does_now(
    before: str | None, firmware: str, word: str | None
) -> None:
    loop = loop_from_states(
        state(pi_throttled=before),
        state(pi_throttled=firmware),
        duration_ms=1.0,
        wanted_ms=1.0,
        threads=1,
        cores=4,
    )
    assert (word in str(loop.throttled)) if word else loop.throttled is None
    assert loop.other_load is None


def loop_of(before: dict[str, object], after: dict[str, object], **fields: object) -> Loop:
    given = {"duration_ms": 2000.0, "wanted_ms": 2000.0, "threads": 1, "cores": 1, **fields}
    return loop_from_states(
        state(**before), state(wall_ns=2 * 10**9, process_ns=2 * 10**9, **after), **given
    )


def test_a_zone_at_its_trip_point_throttles() -> None:
    cool = {"type": "cpu-thermal", "temperature_c": 60.0, "trip_c": 80.0}
    hot = {**cool, "temperature_c": 80.0}
    assert loop_of({"zones": [cool]}, {"zones": [{**hot, "trip_c": None}]}).throttled is None
    said = loop_of({"zones": [cool]}, {"zones": [hot]}).throttled
    assert said is not None
    assert "cpu-thermal is at 80 °C" in said


def test_the_clock_is_held_against_its_base() -> None:
    before = {"base_frequency_mhz": 1800.0, "frequency_mhz": 1800.0}
    after = {"frequency_mhz": 1800.0}
    sound = loop_of(before, after, frequencies_mhz=[1800.0, 1800.0])
    fell = loop_of(before, after, frequencies_mhz=[1800.0, 1200.0, 1800.0])
    ns = series(np.full(400, 10**6))
    assert spoiled(ns, sound, 0.5) is None
    assert "67% of the processor's base" in str(spoiled(ns, fell, 0.5))


def test_a_machine_may_say_itself_that_it_is_emulated() -> None:
    assert loop_of({"emulated": True}, {}).emulated
    assert loop_of({}, {}, emulated=True).emulated
    assert not loop_of({"emulated": False, "governor": "performance"}, {}).emulated


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=300))
def test_a_distribution_holds_every_reading_once(ns: list[int]) -> None:
    bins = histogram(np.array(ns, dtype=np.int64))
    assert sum(count for _, count in bins) == len(ns)
    lows = [low for low, _ in bins]
    assert lows == sorted(set(lows))
    for one in ns:
        assert any(low * 0.999 <= one / 1e6 <= low * BIN * 1.001 for low in lows)
