from datetime import timedelta

import pytest

from cloud.clock import now
from controller.autoscaling.fleet_state import Decision, FleetState, Launched
from controller.autoscaling.planner import Policy
from controller.autoscaling.shared_state import SharedState
from controller.dashboard.forecast import Forecast, facts
from controller.dashboard.latest_state import LatestState
from tests.support.aws_errors import refusal

POLICY = Policy(max_instances=10, max_images_per_instance=20, boot_timeout=300, silent_after=60)


@pytest.fixture
def shared(state) -> SharedState:
    return SharedState(state)


@pytest.fixture
def forecast(shared) -> Forecast:
    return Forecast(LatestState(shared), POLICY)


def launched(seconds_ago: float, **more) -> Launched:
    return Launched(at=now() - timedelta(seconds=seconds_ago), request_id="abc", **more)


def test_the_facts_are_those_of_the_last_look():
    state = FleetState(
        launched={
            "i-1": launched(100, ready=True),
            "i-2": launched(10),
            "i-3": launched(50, ready=True, ending=True),
            "i-4": launched(3, started=True),
        },
        start_seconds=12,
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
    assert (known.start_ages, known.start_seconds) == ([pytest.approx(3, abs=5)], 12)
    assert known.next_try == pytest.approx(10, abs=5)
    assert (known.images_per_second, known.launch_error) == (2, "")


def test_who_never_looked_is_about_to(forecast):
    assert forecast.wait(1).message == "In the queue; what it needs is being worked out."


def test_an_s3_that_refuses_is_said(forecast, aws, on_call):
    def refuse(params):
        raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    wait = forecast.wait(1)
    assert (wait.state, wait.estimate_seconds) == ("queued", None)
    assert "cannot be read right now" in wait.message


def test_instances_that_run_or_start_are_counted(forecast, shared):
    with shared.hold(1) as lease:
        seen = {"pending": 2, "running": 3, "stopped": 4}
        lease.state.remember(Decision(at=now(), by="h/1", seen=seen, wanted=5))
    assert forecast.instances() == 5


def test_while_the_state_cannot_be_read_nobody_knows_how_many_instances_there_are(forecast, on_call, aws):
    def refuse(params):
        raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    assert forecast.instances() is None
