from datetime import timedelta

import pytest

from controller.autoscaling.fleet_history import Sample, Sent
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.planner import Policy
from controller.dashboard import scaling_costs
from controller.dashboard.scaling_costs import FRESH_SECONDS, ScalingCosts, ScalingReplay
from tests.support.samples import NOON, sample


@pytest.fixture
def replay() -> ScalingReplay:
    return ScalingReplay(Policy(10, 20, boot_timeout=300, silent_after=60), price_per_hour=3.6)


def state(**fields: object) -> FleetState:
    return FleetState(ended_images=1000, ended_busy_seconds=10, boot_seconds=40, **fields)  # type: ignore[arg-type]


def sent(hours_ago: float, images: int) -> Sample:
    minute = int((NOON - timedelta(hours=hours_ago)).timestamp() // 60)
    return sample(-3600 * hours_ago).model_copy(update={"sent": {minute: Sent(1, images)}})


def test_the_images_of_the_last_day_are_replayed_both_ways(replay):
    newest = int(NOON.timestamp() // 60)
    shown = replay.recent([sent(25, 9), sent(23, 1), sent(2, 1)], state(sent={newest: Sent(1, 5)}), NOON)
    assert shown.images == 7
    assert shown.queue == pytest.approx(3 * 60 * 0.001)
    assert shown.queue < shown.rate < 2 * shown.queue


def test_nothing_is_said_that_is_not_known(replay):
    assert replay.recent([], state(), NOON) is None
    assert replay.recent([sent(30, 9)], state(), NOON) is None, "too long ago"
    assert replay.recent([sample(0)], state(), NOON) is None, "a sample of an earlier version"
    assert replay.recent([sent(1, 9)], FleetState(), NOON) is None, "the speed of a worker is unknown"


def test_a_fleet_that_is_too_large_is_not_replayed():
    replay = ScalingReplay(Policy(1000, 20, boot_timeout=300, silent_after=60), 3.6)
    assert replay.recent([sent(n / 60, 10**7) for n in range(600)], state(), NOON) is None


def test_the_fastest_worker_that_is_believed_can_be_replayed(replay):
    fast = state().model_copy(update={"ended_images": 10**9, "ended_busy_seconds": 0.001})
    assert replay.recent([sent(2, 4000)], fast, NOON) is not None


def test_the_costs_are_computed_once_a_minute_at_most(replay):
    now = 1000.0
    replay.readings.clock = lambda: now
    first = replay.recent([sent(1, 9)], state(), NOON)
    assert isinstance(first, ScalingCosts)
    assert replay.recent([sent(1, 9), sent(0.5, 9)], state(), NOON) == first
    now += FRESH_SECONDS + 1
    assert replay.recent([sent(1, 9), sent(0.5, 9)], state(), NOON).images == 18
    assert scaling_costs.REPLAYING_SHARE <= 0.01
