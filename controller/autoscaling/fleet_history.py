"""The history of the queue and the fleet over the last day: the object `fleet/history` in the state bucket.

The process that holds the lease adds samples, at most one every few seconds while images wait or instances
run, and none while nothing does. A sample is valid until the next one. Their number is bounded.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from pydantic import BaseModel, Field

from cloud.buckets import Bucket, JsonObjects

KEY = "fleet/history"
SAMPLE_SECONDS = 5
STEPS = {600: 0, 7200: 60, 86400: 600}
"""Maps the age of samples to the interval for which one is kept, both in seconds. Older ones are dropped."""


class Sent(NamedTuple):
    """What all processes have sent to the queue in a minute."""

    requests: int = 0
    images: int = 0


SentByMinute = dict[int, Sent]
"""Maps minutes, counted from 1970 on, to what was sent in them."""


class Sample(BaseModel):
    at: datetime
    visible: int = Field(ge=0)
    """The images in the queue, including delayed ones."""
    in_flight: int = Field(ge=0)
    starting: int = Field(ge=0)
    """The instances whose worker is not ready yet."""
    ready: int = Field(ge=0)
    wanted: int = Field(ge=0)
    sent: SentByMinute = {}
    """What was sent since the sample before."""

    @property
    def idle(self) -> bool:
        return not (self.visible or self.in_flight or self.starting or self.ready or self.wanted)

    def worth_keeping(self, last: "Sample | None") -> bool:
        """Returns whether this sample should follow `last`, the newest that was kept."""
        if last is None or last.idle:
            return not self.idle
        changed = (self.starting, self.ready, self.idle) != (last.starting, last.ready, last.idle)
        return changed or abs((self.at - last.at).total_seconds()) >= SAMPLE_SECONDS


class FleetHistory:
    def __init__(self, bucket: Bucket) -> None:
        self._samples = JsonObjects(bucket, list[Sample], in_place_of_broken=lambda key: [])

    def read(self) -> list[Sample]:
        """Returns the samples, the oldest first. A history that cannot be parsed counts as empty."""
        return self._samples.get(KEY) or []

    def add(self, sample: Sample) -> None:
        """Adds a sample. The process must hold the lease. Samples with a later time are dropped."""
        kept = [s for s in self.read() if s.at < sample.at]
        self._samples.write(KEY, thinned([*kept, sample], sample.at))


def thinned(samples: Sequence[Sample], now: datetime) -> list[Sample]:
    """Thins out old samples: of each interval, the peak and the last sample stay. At most some 600 remain."""
    thin: list[Sample] = []
    for _, group in groupby(samples, lambda sample: bucket(sample, now)):
        many = list(group)
        step = step_of(many[0], now)
        if step is None:
            continue
        thin += many if step == 0 or len(many) < 3 else [peak(many), many[-1]]
    return thin


def bucket(sample: Sample, now: datetime) -> tuple[int | None, int]:
    step = step_of(sample, now)
    return step, int(sample.at.timestamp() // step) if step else 0


def step_of(sample: Sample, now: datetime) -> int | None:
    """Returns the interval for a sample in seconds, or None if the sample is too old to be kept."""
    age = now - sample.at
    return next((step for limit, step in STEPS.items() if age <= timedelta(seconds=limit)), None)


def peak(samples: Sequence[Sample]) -> Sample:
    """Returns the maximum of every count, with the time of the first sample.

    What was sent is that of all samples but the last, which stays.
    """
    fields = set(Sample.model_fields) - {"at", "sent"}
    counts = {name: max(getattr(s, name) for s in samples) for name in fields}
    return Sample(at=samples[0].at, sent=sent_in(samples[:-1]), **counts)


def sent_in(samples: Sequence[Sample]) -> SentByMinute:
    """Returns what was sent according to all these samples."""
    total: SentByMinute = {}
    for sample in samples:
        for minute, sent in sample.sent.items():
            add_sent(total, minute, sent.requests, sent.images)
    return total


def add_sent(total: SentByMinute, minute: int, requests: int, images: int) -> None:
    before = total.get(minute, Sent())
    total[minute] = Sent(before.requests + requests, before.images + images)
