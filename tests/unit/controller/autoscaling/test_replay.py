import time

import pytest

from controller.autoscaling.fleet_history import Sent, SentByMinute
from controller.autoscaling.planner import Policy
from controller.autoscaling.replay import TooMuch, Worker, billed_seconds, steps

WORKER = Worker(images_per_second=100.0, boot_seconds=40.0)


def policy(scaling: str, most: int = 10) -> Policy:
    return Policy(most, 20, boot_timeout=300, silent_after=60, scaling=scaling)  # type: ignore[arg-type]


def test_what_is_sent_in_a_minute_is_spread_over_it() -> None:
    assert list(steps({2: Sent(6, 10)})) == [
        (120.0, Sent(2, 3)),
        (140.0, Sent(2, 3)),
        (160.0, Sent(2, 4)),
    ]
    assert sum(sent.images for _, sent in steps({0: Sent(1, 1), 7: Sent(3, 8)})) == 9


def test_a_lone_image_costs_a_minute_by_the_queue_and_about_two_boots_by_the_rate() -> None:
    sent = {0: Sent(1, 1)}
    assert billed_seconds(sent, policy("queue"), WORKER) == 60
    assert 75 <= billed_seconds(sent, policy("rate"), WORKER) <= 2 * 40 + 20


def test_images_that_keep_coming_cost_less_by_the_rate() -> None:
    """Each of them leaves the queue empty, so that scaling by the queue pays for boot after boot."""
    hour = {minute: Sent(120, 3000) for minute in range(60)}
    by_queue, by_rate = (billed_seconds(hour, policy(way), WORKER) for way in ("queue", "rate"))
    assert 3600 <= by_rate < 3900, "one instance suffices"
    assert by_queue > 2 * by_rate


def test_lone_images_that_come_rarely_cost_less_by_the_queue() -> None:
    rare: SentByMinute = {minute: Sent(1, 1) for minute in range(0, 600, 30)}
    by_queue, by_rate = (billed_seconds(rare, policy(way), WORKER) for way in ("queue", "rate"))
    assert by_queue == 20 * 60
    assert by_queue < by_rate < 2 * by_queue


@pytest.mark.parametrize("scaling", ["queue", "rate"])
def test_a_busy_day_is_replayed_in_a_moment(scaling: str) -> None:
    day = {minute: Sent(600, 24_000 + 30 * (minute % 700)) for minute in range(1440)}
    began = time.thread_time()
    seconds = billed_seconds(day, policy(scaling), WORKER)
    assert seconds * WORKER.images_per_second >= sum(sent.images for sent in day.values())
    assert time.thread_time() - began < 10


def test_a_fleet_that_takes_too_long_to_replay_is_not_replayed() -> None:
    day = {minute: Sent(60_000, 6_000_000) for minute in range(1440)}
    began = time.thread_time()
    with pytest.raises(TooMuch):
        billed_seconds(day, policy("rate", most=1000), WORKER)
    assert time.thread_time() - began < 20
