from datetime import timedelta

import pytest

from controller.autoscaling.fleet_state import Decision
from controller.dashboard.fleet_text import clock, dollars, duration, sentence, told
from tests.support.samples import NOON


def decision(*why: str, seconds: float = 0, **done: list[str]) -> Decision:
    at = NOON + timedelta(seconds=seconds)
    return Decision(at=at, by="host/1", seen={}, wanted=0, why=list(why), **done)


def test_what_was_done_is_said_first_and_then_why():
    (one,) = told([decision("12 images call for 2 instances", launched=["i-1", "i-2"])], 5)
    assert (one.done, one.why) == ("Launched 2 instances.", ["12 images call for 2 instances."])
    (one,) = told([decision("the queue is quiet", terminated=["i-1"])], 5)
    assert (one.done, one.why) == ("Terminated 1 instance.", ["The queue is quiet."])
    (one,) = told([decision("odd", launched=["i-1"], terminated=["i-2", "i-3"])], 5)
    assert one.done == "Launched 1 instance and terminated 2 instances."
    (one,) = told([decision("cold", started=["i-1"], launched=["i-2", "i-3"])], 5)
    assert one.done == "Started 1 instance and launched 2 instances."
    (one,) = told([decision("odd", launched=["i-1"], stopped=["i-2"], terminated=["i-3"])], 5)
    assert one.done == "Launched 1 instance, stopped 1 instance and terminated 1 instance."


def test_of_looks_that_did_nothing_and_differ_in_numbers_only_the_newest_is_told():
    looks = [decision(f"{n} images call for 1 instance", seconds=-n) for n in range(1, 30)]
    launch = decision("30 images call for 1 instance", seconds=-30, launched=["i-1"])
    before = decision("nothing waits", seconds=-40)
    assert [t.at for t in told([*looks, launch, before], 5)] == [looks[0].at, launch.at, before.at]


def test_no_more_are_told_than_asked_for():
    assert len(told([decision("a", launched=["i"])] * 10, 3)) == 3


def test_each_reason_is_a_sentence():
    assert sentence("no capacity: none. ") == "No capacity: none."
    assert sentence("nothing waits") == "Nothing waits."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (86400 * 3, "3 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (0.00012, "$0.000120"), (0.00231, "$0.0023"), (1.5, "$1.50"), (1234.5, "$1,234.50")],
)
def test_dollars(amount, text):
    assert dollars(amount) == text


def test_times_of_another_day_have_a_date():
    assert clock(NOON, NOON + timedelta(hours=1)) == "12:00:00"
    assert clock(NOON, NOON + timedelta(days=1)) == "01 Jan 12:00:00"
