"""How queue and fleet were over the last day: a bounded series, `fleet/history` in the state bucket.

Whoever holds the lease adds to it, at most every few seconds while something waits or runs, and not at all
while nothing does. A sample holds until the next one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from pydantic import BaseModel, Field

from cloud.buckets import Bucket, JsonObjects

KEY = "fleet/history"
SAMPLE_SECONDS = 5
STEPS = {600: 0, 7200: 60, 86400: 600}
"""Samples so many seconds old are kept one for each so many seconds; older ones not at all."""


class Sample(BaseModel):
    at: datetime
    visible: int = Field(ge=0)
    """Images in the queue, those that are delayed too."""
    in_flight: int = Field(ge=0)
    starting: int = Field(ge=0)
    """Instances whose worker is not ready yet."""
    ready: int = Field(ge=0)
    wanted: int = Field(ge=0)

    @property
    def idle(self) -> bool:
        return not (self.visible or self.in_flight or self.starting or self.ready or self.wanted)

    def worth_keeping(self, last: "Sample | None") -> bool:
        """After `last`, which is the newest that was kept."""
        if last is None or last.idle:
            return not self.idle
        changed = (self.starting, self.ready, self.idle) != (last.starting, last.ready, last.idle)
        return changed or abs((self.at - last.at).total_seconds()) >= SAMPLE_SECONDS


class FleetHistory:
    def __init__(self, bucket: Bucket) -> None:
        self._samples = JsonObjects(bucket, list[Sample], in_place_of_broken=lambda key: [])

    def read(self) -> list[Sample]:
        """Oldest first. What cannot be read is nothing, and gives way to the next sample."""
        return self._samples.get(KEY) or []

    def add(self, sample: Sample) -> None:
        """For the one who holds the lease. What a clock that runs ahead has written later gives way."""
        kept = [s for s in self.read() if s.at < sample.at]
        self._samples.write(KEY, thinned([*kept, sample], sample.at))


def thinned(samples: Sequence[Sample], now: datetime) -> list[Sample]:
    """Old ones coarser: of each step its peak, and how it ended. Some 600 at most."""
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
    """Seconds; None when it is too old to be kept."""
    age = now - sample.at
    return next((step for limit, step in STEPS.items() if age <= timedelta(seconds=limit)), None)


def peak(samples: Sequence[Sample]) -> Sample:
    """The most of everything, at the time of the first."""
    fields = set(Sample.model_fields) - {"at"}
    return Sample(at=samples[0].at, **{name: max(getattr(s, name) for s in samples) for name in fields})
