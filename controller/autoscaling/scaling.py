"""How many workers: arithmetic on plain numbers. No AWS, no clock, no memory.

wanted = min(maximum, ceil(backlog / images per instance))
launch = wanted - (pending + running), never below zero

The backlog is visible + in flight + delayed, since an image in a worker's hands still needs that
worker; and at least what was sent moments ago and is unanswered, since SQS's counts are approximate
and may not show it yet. Instances that boot count as workers: else each look would launch them again.

While work goes on, instances are let go that neither the backlog nor the rate of arrivals has called for
lately: the backlog that the first boots leave behind calls for many more than the load then needs.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import NamedTuple

RATE_SECONDS = 120.0  # over which arrivals are counted
SHORTEST_SECONDS = 10.0  # a shorter time says too little of a rate
HEADROOM = 0.3  # spare instances per square root of the busy ones
PAID_SECONDS = 75.0  # from launch to the end of the minute that EC2 bills anyway, which starts at `running`
HOLD_SECONDS = 30.0  # nobody is let go who was wanted within this time


class Seen(NamedTuple):
    """What one look saw."""

    visible: int
    in_flight: int
    delayed: int
    just_sent: int
    """Unanswered images that were sent so lately that SQS's counts may lag behind."""
    pending: int
    running: int

    @property
    def counted(self) -> int:
        return self.visible + self.in_flight + self.delayed

    @property
    def backlog(self) -> int:
        return max(self.counted, self.just_sent)

    @property
    def active(self) -> int:
        return self.pending + self.running

    @property
    def quiet(self) -> bool:
        return self.backlog == 0


def wanted_instances(backlog: int, images_per_instance: int, maximum: int) -> int:
    """Monotone in the backlog; at least one worker for any backlog; never above the maximum."""
    return min(maximum, -(-backlog // images_per_instance))


def instances_to_launch(wanted: int, active: int) -> int:
    return max(0, wanted - active)


class Sent(NamedTuple):
    """What was sent at about one time."""

    age: float
    """How many seconds ago the last of it was."""
    requests: int
    images: int


def arriving_per_second(sent: Sequence[Sent]) -> float:
    """Images per second of the requests of the last minutes, oldest first. A lone request is no rate.

    The first one only starts the clock, so that a stream which has just begun is seen as what it is.
    """
    lately = [s for s in sent if s.age <= RATE_SECONDS]
    if not lately:
        return 0.0
    return sum(s.images for s in lately[1:]) / max(lately[0].age, SHORTEST_SECONDS)


def instances_for_rate(arriving: float, images_per_second: float) -> int:
    """Enough for images that come at this rate: the busy ones, and some spare.

    Queues of n servers need about the square root of n more than are busy (square-root staffing:
    van Leeuwaarden, Mathijsen and Zwart, Economies-of-scale in many-server queueing systems, 2019).
    """
    busy = arriving / images_per_second
    return ceil(busy + HEADROOM * sqrt(busy))


def instances_to_end(wanted_lately: Sequence[int], ages: Sequence[float]) -> int:
    """How many of the active instances nobody needs: more than any look of late wanted, and paid for.

    `ages` are the seconds since each was launched.
    """
    paid = sum(age >= PAID_SECONDS for age in ages)
    return max(0, min(paid, len(ages) - max(wanted_lately)))


def lowest_free_numbers(taken: set[int], count: int) -> list[int]:
    """The numbers, from 1, for the Name tags of `count` new instances."""
    numbers: list[int] = []
    candidate = 1
    while len(numbers) < count:
        if candidate not in taken:
            numbers.append(candidate)
        candidate += 1
    return numbers
