from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cloud.clock import LOOK_SECONDS, Clock, now
from tests.support.clocks import set_host_clock


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


def test_a_clock_that_was_set_right_is_trusted_again(monkeypatch):
    clock = Clock()
    clock.compare(reply(180))
    clock.compare(reply(0))
    assert off(clock) > 170, "it was compared just before"
    monkeypatch.setattr("time.monotonic", lambda: 1e9 + LOOK_SECONDS)
    clock.compare(reply(0))
    assert off(clock) == pytest.approx(0, abs=0.1)


def test_a_reply_without_a_date_says_nothing():
    clock = Clock()
    clock.compare({"ResponseMetadata": {}})
    assert off(clock) == pytest.approx(0, abs=0.1)


def test_any_call_of_aws_tells_the_time(aws, state, monkeypatch):
    set_host_clock(monkeypatch, ahead=180)
    state.write("key", b"value")
    state.read("key")
    assert (now() - datetime.now(UTC)).total_seconds() == pytest.approx(0, abs=1.5)
