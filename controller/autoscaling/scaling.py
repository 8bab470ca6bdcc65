"""The arithmetic of scaling, on plain numbers. It uses no AWS, no clock and no memory.

    wanted = min(maximum, ceil(backlog / images per instance))
    launch = wanted - (pending + running), never below zero

Instances that boot count as workers; otherwise each run would launch them again.

While work goes on, instances are let go that neither the backlog nor the rate of arrivals has called for
lately. The backlog that piles up during the first boots calls for many more than the load then needs.
"""

from collections.abc import Sequence
from math import ceil, sqrt
from typing import NamedTuple

RATE_SECONDS = 120.0  # over which arrivals are counted
SHORTEST_SECONDS = 10.0  # the least time over which a rate is computed
HEADROOM = 0.3  # spare instances per square root of the busy ones
PAID_SECONDS = 75.0  # from launch to the end of the minute that EC2 bills anyway, which starts at `running`
HOLD_SECONDS = 30.0  # an instance that was called for within this time is not let go


def wanted_instances(backlog: int, images_per_instance: int, maximum: int) -> int:
    """Returns how many instances a backlog of images calls for: at least one for any, at most `maximum`."""
    return min(maximum, -(-backlog // images_per_instance))


def instances_to_launch(wanted: int, active: int) -> int:
    return max(0, wanted - active)


class Sent(NamedTuple):
    """What was sent to the queue at about one time."""

    age: float
    """Seconds since the last of it was sent."""
    requests: int
    images: int


def arriving_per_second(sent: Sequence[Sent]) -> float:
    """Returns the images per second of the last minutes, from what was sent, the oldest first.

    The first entry only starts the clock, so a lone request has no rate, and a stream that has just begun is
    not underestimated.
    """
    lately = [s for s in sent if s.age <= RATE_SECONDS]
    if not lately:
        return 0.0
    return sum(s.images for s in lately[1:]) / max(lately[0].age, SHORTEST_SECONDS)


def instances_for_rate(arriving: float, images_per_second: float) -> int:
    """Returns how many instances images that arrive at this rate need: the busy ones, and some spare.

    A queue with many servers needs spare ones in proportion to the square root of the busy ones (square-root
    staffing: van Leeuwaarden, Mathijsen and Zwart, Economies-of-scale in many-server queueing systems, 2019).
    """
    busy = arriving / images_per_second
    return ceil(busy + HEADROOM * sqrt(busy))


def instances_to_terminate(called_for_lately: Sequence[int], ages: Sequence[float]) -> int:
    """Returns how many of the instances are needless: more than were called for lately, and paid for.

    `ages` are the seconds since each instance was launched.
    """
    paid = sum(age >= PAID_SECONDS for age in ages)
    return max(0, min(paid, len(ages) - max(called_for_lately)))


def lowest_free_numbers(taken: set[int], count: int) -> list[int]:
    """Returns the `count` lowest numbers from 1 that are not taken, for the Name tags of instances."""
    numbers: list[int] = []
    candidate = 1
    while len(numbers) < count:
        if candidate not in taken:
            numbers.append(candidate)
        candidate += 1
    return numbers
