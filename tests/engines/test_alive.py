"""Which process holds up a run, by what all of them say."""

from __future__ import annotations

import pytest

from ltxcore.engines.alive import Beat, spelled, verdict

MINUTE = 60.0
PATIENCE = 10 * MINUTE


def judged(*beats: tuple[Beat | None, float]) -> tuple[tuple[int, ...], str] | None:
    found = verdict(dict(enumerate(beats)), PATIENCE)
    return None if found is None else (found.ranks, found.what)


def step(number: int = 12, **told: object) -> Beat:
    return Beat(**{"what": f"step {number}", "moves": number, **told})


def test_processes_that_move_hold_up_nobody() -> None:
    assert judged((step(), 5), (step(idle=9 * MINUTE), 10)) is None


def test_a_process_that_says_nothing_any_more_is_named_with_its_last_word_and_not_the_one_that_waits_for_it() -> None:
    assert judged((step(idle=11 * MINUTE, waits=True), 5), (step(where="load (x.py:3)"), 11 * MINUTE)) == (
        (1,),
        'process 1 of 2, which said "step 12, in load (x.py:3)" 11 minutes ago, shows no sign of life',
    )


def test_a_process_that_never_came_is_named() -> None:
    assert judged((step(), 5), (None, 11 * MINUTE)) == (
        (1,),
        "process 1 of 2, for which the others waited 11 minutes, shows no sign of life",
    )
    assert judged((step(), 5), (None, 9 * MINUTE)) is None


def test_a_process_whose_main_thread_does_not_move_is_named_with_its_place() -> None:
    waiting = step(idle=12 * MINUTE, waits=True)
    assert judged((waiting, 5), (step(idle=11 * MINUTE, where="load (x.py:3)"), 5)) == (
        (1,),
        "process 1 of 2 has not moved for 11 minutes: step 12, in load (x.py:3)",
    )


def test_where_none_seems_to_wait_as_on_gpus_the_one_that_is_behind_is_named() -> None:
    found = judged((step(13, idle=11 * MINUTE), 5), (step(12, idle=11 * MINUTE), 5), (step(13, idle=11 * MINUTE), 5))
    assert found is not None
    assert found[0] == (1,)


@pytest.mark.parametrize("what", ["loading the model", "encoding", "saving after step 12"])
def test_one_that_loads_encodes_or_saves_has_six_times_as_long_and_those_that_wait_for_it_too(what: str) -> None:
    waiting = step(idle=50 * MINUTE, waits=True)
    assert judged((waiting, 5), (Beat(what=what, is_long=True, idle=50 * MINUTE), 5)) is None
    assert judged((waiting, 5), (Beat(what=what, is_long=True, idle=61 * MINUTE), 5)) == (
        (1,),
        f"process 1 of 2 has not moved for 61 minutes: {what}",
    )


def test_processes_that_wait_for_one_another_are_all_named() -> None:
    found = judged((step(idle=11 * MINUTE, waits=True, where="a (x.py:1)"), 5), (step(idle=11 * MINUTE, waits=True, where="b (x.py:2)"), 5))
    assert found == (
        (0, 1),
        "all 2 processes have waited for one another for 11 minutes: process 0 at step 12, in a (x.py:1), process 1 at step 12, in b (x.py:2)",
    )


def test_one_that_has_done_its_part_is_not_missed() -> None:
    assert judged((step(is_over=True), 60 * MINUTE), (step(), 5)) is None


def test_times_are_spelled_in_seconds_and_minutes() -> None:
    assert [spelled(seconds) for seconds in (4.2, 119, 600)] == ["4 seconds", "119 seconds", "10 minutes"]
