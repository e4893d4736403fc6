"""The choice of a thread count: what is tried, what is chosen, and what is remembered where."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.runtime import threads


class Clock:
    """Time that passes only while a model runs: `ms` of the count that is open."""

    def __init__(self, ms: dict[int, float]) -> None:
        self.ms, self.now, self.opened, self.runs = ms, 0.0, [], 0

    def prepare(self, count: int) -> Callable[[], None]:
        self.opened.append(count)

        def run() -> None:
            self.runs += 1
            self.now += self.ms[count] / 1e3

        return run

    def __call__(self) -> float:
        return self.now


def test_counts_are_few_and_hold_one_and_all() -> None:
    assert threads.counts(1) == (1,)
    assert threads.counts(2) == (1, 2)
    assert threads.counts(4) == (1, 2, 3, 4)
    assert threads.counts(6) == (1, 2, 3, 4, 6)
    assert threads.counts(8) == (1, 2, 3, 4, 8)
    assert threads.counts(20) == (1, 2, 3, 4, 8, 16, 20)


def test_each_count_is_timed_and_the_fastest_is_chosen() -> None:
    clock = Clock({1: 8.0, 2: 4.0, 3: 5.0, 4: 9.0})
    found = threads.fastest(clock.prepare, (1, 2, 3, 4), clock=clock)
    assert found == pytest.approx(clock.ms)
    assert clock.opened == [4, 3, 2, 1]
    assert threads.choose(found) == 2
    assert 0.9 < clock.now < 1.3


def test_a_slow_model_is_not_timed_without_end() -> None:
    clock = Clock({1: 900.0, 2: 500.0, 4: 400.0})
    found = threads.fastest(clock.prepare, (1, 2, 4), clock=clock)
    assert list(found) == [4]
    assert clock.runs == 5


@given(st.dictionaries(st.integers(1, 64), st.floats(0.01, 1e3), min_size=1))
def test_the_choice_is_nearly_the_fastest_and_the_smallest_of_those(
    times: dict[int, float],
) -> None:
    chosen = threads.choose(times)
    assert times[chosen] * 0.95 <= min(times.values())
    assert all(times[count] * 0.95 > min(times.values()) for count in times if count < chosen)


def test_a_choice_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = threads.memory_file("digest", "1.31.1")
    assert file is not None
    assert file.is_relative_to(tmp_path / "edgecompress" / "threads")
    assert threads.remembered(file) is None
    assert threads.remember(file, 1, {1: 2.0, 2: 2.1})
    assert threads.remembered(file) == 1
    assert json.loads(file.read_text()) == {"threads": 1, "ms": {"1": 2.0, "2": 2.1}}
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]
    assert (
        len({file, *(threads.memory_file(*k) for k in (("other", "1.31.1"), ("digest", "1")))}) == 3
    )


def test_another_number_of_cores_is_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threads.memory_file("digest", "1")
    monkeypatch.setattr(threads, "usable_cores", lambda: 1000)
    assert threads.memory_file("digest", "1") != before


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", '{"threads": 0}', '{"threads": 99999}', '{"threads": true}'),
        *('{"threads": "1"}', '{"threads": 1.0}', "\x00" * 99, "[" * 9999),
        '{"threads": 1' + " " * 9999 + "}",
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "choice.json").write_text(text)
    assert threads.remembered(tmp_path / "choice.json") is None


def test_what_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not threads.remember(tmp_path / "file" / "choice.json", 1, {1: 1.0})
    (tmp_path / "choice.json").mkdir()
    assert not threads.remember(tmp_path / "choice.json", 1, {1: 1.0})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["choice.json", "file"]
    assert threads.remembered(tmp_path / "choice.json") is None


def test_a_cache_folder_is_absolute_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for wrong in ("relative", "", "~/.cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", wrong)
        found = threads.memory_file("digest", "1")
        assert found is not None
        assert found.is_relative_to("/home/someone/.cache/edgecompress")
    monkeypatch.setattr("os.path.expanduser", lambda text: text)  # a user without a home
    assert threads.memory_file("digest", "1") is None
    assert threads.remembered(None) is None
    assert not threads.remember(None, 1, {1: 1.0})


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(files: dict[str, str]) -> None:
        monkeypatch.setattr(threads, "_text", files.get)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    fake({})
    assert threads.usable_cores() == 4
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    hyper = {siblings.format(cpu): "0,2" if cpu % 2 == 0 else "1,3" for cpu in range(4)}
    fake(hyper)
    assert threads.usable_cores() == 2
    fake({"/sys/fs/cgroup/cpu.max": "150000 100000"})
    assert threads.usable_cores() == 2
    fake({"/sys/fs/cgroup/cpu.max": "max 100000"})
    assert threads.usable_cores() == 4
    fake({"/sys/fs/cgroup/cpu.max": "1000 100000"})
    assert threads.usable_cores() == 1
    fake({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000"})
    assert threads.usable_cores() == 3
    fake({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"})
    assert threads.usable_cores() == 4
