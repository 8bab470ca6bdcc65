"""Remembers what was sent, and how many instances that called for. All times are in seconds."""

from pydantic import BaseModel

from controller.autoscaling.rate_scaling import CalledFor
from controller.autoscaling.scaling import HOLD_SECONDS, RATE_SECONDS, Sent

STEP_SECONDS = 2.0  # what is sent within this time is kept as one entry
LONGEST_HOLD_SECONDS = 900.0  # for which it is remembered what plans called for


class SentAt(BaseModel):
    at: float
    requests: int
    images: int


class CalledForAt(BaseModel):
    at: float
    instances: int


class Demand(BaseModel):
    """Any clock will do, such as seconds since the epoch, as long as `now` is always of the same one."""

    sent: list[SentAt] = []
    """What all processes have sent to the queue, the oldest first."""
    called_for: list[CalledForAt] = []
    """What recent plans called for, the oldest first, unless a later one called for as much.

    The numbers therefore fall, and there are no more entries than instances.
    """

    def note_sent(self, requests: int, images: int, now: float) -> None:
        self.sent = [s for s in self.sent if now - s.at < RATE_SECONDS]
        if not requests:
            return
        if self.sent and now - self.sent[-1].at < STEP_SECONDS:
            last = self.sent.pop()
            requests, images, now = requests + last.requests, images + last.images, last.at
        self.sent.append(SentAt(at=now, requests=requests, images=images))

    def note_called_for(self, instances: int, now: float) -> None:
        kept = [c for c in self.called_for if c.instances > instances and now - c.at < LONGEST_HOLD_SECONDS]
        self.called_for = [*kept, CalledForAt(at=now, instances=instances)]

    def arrivals(self, now: float) -> tuple[Sent, ...]:
        """Returns what was sent in the last minutes, the oldest first."""
        return tuple(Sent(now - s.at, s.requests, s.images) for s in self.sent)

    def called_for_lately(self, now: float) -> tuple[int, ...]:
        """Returns the numbers of instances that plans of the last HOLD_SECONDS called for."""
        return tuple(c.instances for c in self.levels(now) if c.age < HOLD_SECONDS)

    def levels(self, now: float) -> tuple[CalledFor, ...]:
        """Returns for how long no plan has called for as many instances, the most instances first."""
        return tuple(CalledFor(now - c.at, c.instances) for c in self.called_for)
