"""The arithmetic of SCALING=rate, on plain numbers. It uses no AWS, no clock and no memory.

Demand is the number of instances that do what arrives, and that clear the backlog within some boots. It is
rounded to the nearest: what less than half an instance could do waits until it has become more.

An instance beyond the k-th is let go only after the demand has stayed at k or below for as long as a boot
costs. Idle and boot seconds are then at most twice those of whoever knows the future of the demand (ski
rental, for each level k by itself: Lu and Chen, arXiv 1112.0442). There is a timer for each level and not for
each worker, because workers that pull messages scatter their idle times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from controller.autoscaling.scaling import Sent, arriving_per_second

CLEARING_BOOTS = 4.0  # the backlog shall be gone so many boots after the next one
RECENT_SECONDS = 10.0  # over which a change of the rate is noticed
CHANCE = 4.0  # standard deviations beyond which the rate has changed


class CalledFor(NamedTuple):
    """A demand, and when it last was as high."""

    age: float
    """Seconds since a plan last called for so many instances or more."""
    instances: int


@dataclass(frozen=True)
class Load:
    """What there is to do, and who is there to do it."""

    backlog: int
    """The images that wait for a prediction."""
    arriving: float
    """Images per second."""
    images_per_second: float
    """The speed of one instance."""
    boot_seconds: float
    ready: int
    """The number of instances that are ready."""
    booting: Sequence[float]
    """The seconds until each other instance is ready."""


def instances_for_load(load: Load) -> int:
    """Returns how many instances `load` calls for: at least one for any backlog.

    The backlog is the one that there will be when an instance that is launched now is ready. What the others
    have done by then needs no launch.
    """
    busy = load.arriving / load.images_per_second
    boot = load.boot_seconds
    done_meanwhile = load.ready * boot + sum(max(0.0, boot - left) for left in load.booting)
    waiting = max(0.0, load.backlog / load.images_per_second + busy * boot - done_meanwhile)
    return max(min(1, load.backlog), int(busy + waiting / (CLEARING_BOOTS * boot) + 0.5))


def arriving_now(sent: Sequence[Sent]) -> float:
    """Returns the images per second that arrive, from what was sent, the oldest first.

    It is the rate of the last minutes, unless the last seconds had more or fewer requests than chance
    explains. Then it is theirs.
    """
    recent = [s for s in sent if s.age <= RECENT_SECONDS]
    usual = arriving_per_second(sent)
    if not sent or sent[0].age <= RECENT_SECONDS:
        return usual
    requests = sum(s.requests for s in sent[1:])
    expected = requests / sent[0].age * RECENT_SECONDS
    if abs(sum(s.requests for s in recent) - expected) <= CHANCE * sqrt(expected):
        return usual
    return sum(s.images for s in recent) / RECENT_SECONDS


def held_instances(called_for: Sequence[CalledFor], boot_seconds: float) -> int:
    """Returns how many instances stay: the most that were called for within the time that a boot costs."""
    return max((c.instances for c in called_for if c.age < boot_seconds), default=0)
