from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic

import pytest

from controller.autoscaling.shared_state import SharedState
from controller.dashboard import latest_state
from controller.dashboard.latest_state import FRESH_SECONDS, STALE_SECONDS, LatestState
from tests.support.aws_errors import refusal


@pytest.fixture
def shared(state) -> SharedState:
    return SharedState(state)


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def latest(shared, clock) -> LatestState:
    return LatestState(shared, lambda: clock[0])


@pytest.fixture
def reads(aws, on_call) -> list[str]:
    read: list[str] = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    return read


def note(shared, launch_error: str) -> None:
    with shared.hold(0) as lease:
        lease.state.launch_error = launch_error


def test_one_read_a_second_serves_all(latest, shared, clock, reads):
    note(shared, "first")
    reads.clear()
    assert {latest.get().launch_error for _ in range(50)} == {"first"}
    assert reads == ["fleet/state"]
    note(shared, "second")
    reads.clear()
    assert latest.get().launch_error == "first"
    clock[0] += FRESH_SECONDS
    assert latest.get().launch_error == "second"
    assert reads == ["fleet/state"]


def test_many_who_ask_at_once_share_a_read(latest, shared, reads):
    note(shared, "first")
    reads.clear()
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: latest.get().launch_error, range(100)))
    assert found == ["first"] * 100
    assert reads == ["fleet/state"]


def test_an_s3_that_refuses_is_asked_no_more_often(latest, aws, on_call, clock):
    asked = []

    def refuse(params):
        asked.append(params)
        raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    assert [latest.get() for _ in range(10)] == [None] * 10
    assert len(asked) == 1
    clock[0] += FRESH_SECONDS
    assert latest.get() is None
    assert len(asked) == 2


def test_nobody_waits_for_an_s3_that_is_silent_and_what_is_old_is_not_told(
    latest, shared, aws, on_call, clock, monkeypatch
):
    monkeypatch.setattr(latest_state, "PATIENCE_SECONDS", 0.05)
    note(shared, "first")
    assert latest.get().launch_error == "first"
    speaks = Event()
    on_call(aws.s3, "GetObject", lambda params: speaks.wait(20))
    clock[0] += FRESH_SECONDS
    began = monotonic()
    assert latest.get().launch_error == "first"
    clock[0] += STALE_SECONDS
    assert latest.get() is None
    assert monotonic() - began < 10
    speaks.set()
    monkeypatch.setattr(latest_state, "PATIENCE_SECONDS", 20)
    assert latest.get().launch_error == "first"


def test_what_nobody_expected_is_raised_and_the_next_one_reads_anew(latest, shared, monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    note(shared, "first")
    with monkeypatch.context() as context:
        context.setattr(shared, "peek", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            latest.get()
    assert latest.get().launch_error == "first"
