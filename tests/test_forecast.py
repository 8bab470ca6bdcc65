from datetime import timedelta

import pytest

from controller.fleet_state import Decision, FleetState, Launched, SharedState, now
from controller.forecast import FRESH_SECONDS, Forecast, facts
from controller.look import Policy
from tests.conftest import refusal

POLICY = Policy(max_instances=10, max_images_per_instance=20)


@pytest.fixture
def shared(outputs) -> SharedState:
    return SharedState(outputs)


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def forecast(shared, clock) -> Forecast:
    return Forecast(shared, POLICY, lambda: clock[0])


@pytest.fixture
def reads(aws, on_call) -> list[str]:
    read: list[str] = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    return read


def note(shared, **changes) -> None:
    with shared.hold(0) as lease:
        for name, value in changes.items():
            setattr(lease.state, name, value)


def launched(seconds_ago: float, **more) -> Launched:
    return Launched(at=now() - timedelta(seconds=seconds_ago), request_id="abc", **more)


def test_the_facts_are_those_of_the_last_look():
    state = FleetState(
        launched={
            "i-1": launched(100, ready=True),
            "i-2": launched(10),
            "i-3": launched(50, ready=True, ending=True),
        },
        decisions=[
            Decision(at=now(), by="h/1", seen={"visible": 9, "in_flight": 9}, wanted=1),
            Decision(at=now(), by="h/1", seen={"visible": 5, "in_flight": 2, "just_sent": 4}, wanted=1),
        ],
        no_launch_before=now() + timedelta(seconds=10),
        ended_images=50,
        ended_busy_seconds=25,
        launch_error="of yesterday",
    )
    known = facts(state, POLICY)
    assert (known.queued, known.ready, known.max_instances) == (7, 1, 10)
    assert known.boot_ages == [pytest.approx(10, abs=5)]
    assert known.next_try == pytest.approx(10, abs=5)
    assert (known.images_per_second, known.launch_error) == (2, "")


def test_one_read_a_second_serves_all(forecast, shared, clock, reads):
    note(shared, launched={"i-1": launched(0)})
    reads.clear()
    waits = [forecast.wait(1) for _ in range(50)]
    assert {wait.state for wait in waits} == {"launching"}
    assert reads == ["fleet/state"]
    note(shared, launched={"i-1": launched(0, ready=True)})
    reads.clear()
    assert forecast.wait(1).state == "launching"
    clock[0] += FRESH_SECONDS
    assert forecast.wait(1).state == "classifying"
    assert reads == ["fleet/state"]


def test_who_never_looked_is_about_to(forecast):
    assert forecast.wait(1).message == "In the queue; the fleet is being looked at."


def test_an_s3_that_does_not_answer_is_said_and_asked_no_more_often(forecast, aws, on_call, clock):
    asked = []

    def refuse(params):
        asked.append(params)
        raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    for _ in range(10):
        wait = forecast.wait(1)
    assert (wait.state, wait.estimate_seconds) == ("queued", None)
    assert "cannot be read right now" in wait.message
    assert len(asked) == 1
