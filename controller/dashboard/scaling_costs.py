"""What each way of scaling would have cost for the images of the last day."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, get_args

from pydantic import BaseModel

from cloud.shared_reading import SharedReading
from controller.autoscaling.fleet_history import Sample, SentByMinute, sent_in
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.observation import BOOT_GUESS_SECONDS
from controller.autoscaling.planner import Policy
from controller.autoscaling.replay import TooMuch, Worker, billed_seconds

FRESH_SECONDS = 60.0
REPLAYING_SHARE = 0.01  # the largest share of the time spent on replays
Scaling = Literal["queue", "rate"]


class ScalingCosts(BaseModel):
    """What the instances for the images of the last 24 hours would have cost with each way of scaling."""

    images: int
    """The number of images that were sent to the queue in this time."""
    queue: float
    """Dollars, with SCALING=queue."""
    rate: float
    """Dollars, with SCALING=rate."""


class ScalingReplay:
    def __init__(self, policy: Policy, price_per_hour: float) -> None:
        self.policy, self.price_per_hour = policy, price_per_hour
        self.readings: SharedReading[ScalingCosts | None] = SharedReading(FRESH_SECONDS, REPLAYING_SHARE)

    def recent(self, history: Sequence[Sample], state: FleetState, now: datetime) -> ScalingCosts | None:
        """Returns the costs as of a minute ago, or None if they cannot be known.

        That is so while nothing was sent, while the speed of a worker is unknown, and for a fleet too large
        to be replayed.
        """
        speed, sent = state.full_speed or state.first_images_per_second, sent_lately(history, state, now)
        if not speed or not sent:
            return None
        worker = Worker(speed, state.boot_seconds or BOOT_GUESS_SECONDS)
        return self.readings.get(lambda: self.replay(sent, worker))

    def replay(self, sent: SentByMinute, worker: Worker) -> ScalingCosts | None:
        try:
            dollars = {way: self.dollars(way, sent, worker) for way in get_args(Scaling)}
        except TooMuch:
            return None
        return ScalingCosts(images=sum(minute.images for minute in sent.values()), **dollars)

    def dollars(self, scaling: Scaling, sent: SentByMinute, worker: Worker) -> float:
        seconds = billed_seconds(sent, replace(self.policy, scaling=scaling), worker)
        return round(seconds / 3600 * self.price_per_hour, 6)


def sent_lately(history: Sequence[Sample], state: FleetState, now: datetime) -> SentByMinute:
    """Returns what was sent in the last 24 hours."""
    newest = Sample(at=now, visible=0, in_flight=0, starting=0, ready=0, wanted=0, sent=state.sent)
    first = (now - timedelta(days=1)).timestamp() // 60
    return {
        minute: sent
        for minute, sent in sent_in([*history, newest]).items()
        if minute >= first and sent.images
    }
