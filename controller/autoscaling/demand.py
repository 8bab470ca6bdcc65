"""What was sent and wanted in the last minutes, so that no instance is kept for nothing."""

from datetime import datetime, timedelta

from pydantic import BaseModel

from controller.autoscaling.scaling import (
    HOLD_SECONDS,
    RATE_SECONDS,
    Sent,
    arriving_per_second,
    instances_for_rate,
)

STEP_SECONDS = 2.0  # what is sent within it is kept as one


class SentAt(BaseModel):
    at: datetime
    requests: int
    images: int


class WantedAt(BaseModel):
    at: datetime
    instances: int


class Demand(BaseModel):
    sent: list[SentAt] = []
    """By all processes, oldest first."""
    wanted: list[WantedAt] = []

    def note_sent(self, requests: int, images: int, now: datetime) -> None:
        self.sent = [s for s in self.sent if now - s.at < timedelta(seconds=RATE_SECONDS)]
        if not requests:
            return
        if self.sent and now - self.sent[-1].at < timedelta(seconds=STEP_SECONDS):
            last = self.sent.pop()
            requests, images, now = requests + last.requests, images + last.images, last.at
        self.sent.append(SentAt(at=now, requests=requests, images=images))

    def note_wanted(self, instances: int, now: datetime) -> None:
        kept = [w for w in self.wanted if now - w.at < timedelta(seconds=HOLD_SECONDS)]
        self.wanted = [*kept, WantedAt(at=now, instances=instances)]

    def most_wanted(self, images_per_second: float, now: datetime) -> int:
        """By any look of late, for the backlog or for the rate at which images come."""
        sent = [Sent((now - s.at).total_seconds(), s.requests, s.images) for s in self.sent]
        for_rate = instances_for_rate(arriving_per_second(sent), images_per_second)
        return max([for_rate, *(w.instances for w in self.wanted)])
