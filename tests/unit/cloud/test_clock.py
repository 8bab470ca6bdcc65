import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import cloud.clock
from cloud.clock import Clock, now
from tests.support import clocks


def reply(ahead: float) -> dict[str, object]:
    """A reply of an AWS whose clock is so many seconds ahead of the real time."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    return {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}


def off(clock: Clock) -> float:
    return (clock.now() - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize("ahead", [-180, 180])
def test_the_time_is_that_of_aws(ahead, caplog):
    clock = Clock()
    clock.compare(reply(ahead))
    assert off(clock) == pytest.approx(ahead, abs=1.1)
    assert f"the clock of this host is {abs(ahead)} s" in caplog.text.replace("179", "180").replace(
        "181", "180"
    )


def test_a_small_difference_is_that_of_the_network(caplog):
    clock = Clock()
    clock.compare(reply(-2))
    assert off(clock) == pytest.approx(0, abs=0.1)
    assert caplog.text == ""


def test_a_clock_that_was_set_right_is_trusted_again():
    clock = Clock()
    clock.compare(reply(180))
    clock.compare(reply(0))
    assert off(clock) == pytest.approx(0, abs=0.1)


def test_a_reply_without_a_date_says_nothing():
    clock = Clock()
    clock.compare({"ResponseMetadata": {}})
    assert off(clock) == pytest.approx(0, abs=0.1)


def test_any_call_of_aws_tells_the_time(aws, state, monkeypatch):
    clocks.set_host_clock(monkeypatch, ahead=180)
    state.write("key", b"value")
    state.read("key")
    assert (now() - datetime.now(UTC)).total_seconds() == pytest.approx(0, abs=1.5)


def test_a_reply_that_was_read_late_says_nothing(aws, state, s3_clock, on_reply, monkeypatch):
    """The process stood still meanwhile, so that the date of the reply is old."""
    monotonic, late = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late[0])
    state.write("key", b"value")
    on_reply(aws.s3, "GetObject", lambda reply: late.append(late.pop() + 25))
    s3_clock.ahead = -25
    state.read("key")
    assert off(cloud.clock.clock) == pytest.approx(0, abs=0.1)
    late[0], s3_clock.ahead = 100.0, 180
    on_reply(aws.s3, "GetObject", lambda reply: late.append(late.pop() - 25))
    state.read("key")
    assert off(cloud.clock.clock) == pytest.approx(180, abs=1.1), "the next reply is read at once"


def test_a_slow_reply_does_not_set_a_clock_that_is_right(monkeypatch, caplog):
    """Its date may be as old as the call, and a second more, as it has no fractions of one."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", moved := clocks.Clock())
    clock.begin()
    moved.now += 2.9
    clock.compare(reply(-3.1))
    assert off(clock) == pytest.approx(0, abs=0.1)
    assert caplog.text == ""


def test_a_clock_that_is_right_again_is_said_to_be(caplog):
    clock = Clock()
    clock.compare(reply(180))
    caplog.set_level("INFO")
    clock.compare(reply(1))
    assert "agrees with that of AWS again" in caplog.text
