"""Remembers what was sent, and how many instances that called for. All times are in seconds."""

from pydantic import BaseModel

from controller.autoscaling.scaling import HOLD_SECONDS, RATE_SECONDS, Sent

STEP_SECONDS = 2.0  # what is sent within this time is kept as one entry


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
    """What recent plans called for, the oldest first."""

    def note_sent(self, requests: int, images: int, now: float) -> None:
        self.sent = [s for s in self.sent if now - s.at < RATE_SECONDS]
        if not requests:
            return
        if self.sent and now - self.sent[-1].at < STEP_SECONDS:
            last = self.sent.pop()
            requests, images, now = requests + last.requests, images + last.images, last.at
        self.sent.append(SentAt(at=now, requests=requests, images=images))

    def note_called_for(self, instances: int, now: float) -> None:
        kept = [c for c in self.called_for if now - c.at < HOLD_SECONDS]
        self.called_for = [*kept, CalledForAt(at=now, instances=instances)]

    def arrivals(self, now: float) -> tuple[Sent, ...]:
        """Returns what was sent in the last minutes, the oldest first."""
        return tuple(Sent(now - s.at, s.requests, s.images) for s in self.sent)

    def called_for_lately(self, now: float) -> tuple[int, ...]:
        """Returns the numbers of instances that plans of the last HOLD_SECONDS called for."""
        return tuple(c.instances for c in self.called_for if now - c.at < HOLD_SECONDS)
