"""How many workers: arithmetic on plain integers. No AWS, no clock, no memory.

wanted = min(maximum, ceil(backlog / images per instance))
launch = wanted - (pending + running), never below zero

The backlog is visible + in flight + delayed, since an image in a worker's hands still needs that
worker; and at least what was sent moments ago and is unanswered, since SQS's counts are approximate
and may not show it yet. Instances that boot count as workers: else each look would launch them again.
"""

from typing import NamedTuple


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


def lowest_free_numbers(taken: set[int], count: int) -> list[int]:
    """The numbers, from 1, for the Name tags of `count` new instances."""
    numbers: list[int] = []
    candidate = 1
    while len(numbers) < count:
        if candidate not in taken:
            numbers.append(candidate)
        candidate += 1
    return numbers
