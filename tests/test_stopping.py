"""When the search for candidates ends: by its time, or by Ctrl-C, and only when one stands."""

from __future__ import annotations

import pytest

from edgecompress.engine.stopping import OutOfTimeError, Search
from edgecompress.results import Row


def test_without_a_limit_it_goes_on() -> None:
    search = Search()
    search.stands = True
    search.check()
    assert search.goes_on()


def test_the_time_waits_for_the_first_candidate() -> None:
    search = Search(0.0)
    search.check()
    assert search.goes_on()
    search.stands = True
    with pytest.raises(OutOfTimeError) as stop:
        search.check()
    assert search.ended_by(stop.value)
    assert not search.goes_on()
    row = search.left_out(Row("a", "candidate"))
    assert (row.tried, row.error) == (False, "left out: the time of 0 s was over")


def test_a_stage_under_way_is_left_and_the_next_is_not_begun() -> None:
    search = Search(0.0)
    search.stands = True
    assert not search.goes_on()
    assert search.reason == "the time of 0 s was over"


@pytest.mark.parametrize(("best_so_far", "stands", "ends"), [
    (True, True, True), (True, False, False), (False, True, False),
])  # fmt: skip
def test_an_interruption_ends_the_search_where_that_is_wanted_and_one_stands(
    best_so_far: bool, stands: bool, ends: bool
) -> None:
    search = Search(best_so_far=best_so_far)
    search.stands = stands
    assert search.ended_by(KeyboardInterrupt()) is ends
    assert search.goes_on() is not ends
