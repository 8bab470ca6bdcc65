"""What controller/autoscaling/scaling.py could know besides the backlog: how fast images come, and how fast
they go.

Pure functions over plain numbers, as in scaling.py. A backlog alone says nothing of the load that goes
on: while the first workers boot it grows to many times what those workers could do, and once they have
done it, it is nearly nothing though all of them may be needed.
"""

from collections.abc import Sequence
from math import ceil

from controller.autoscaling.scaling import Sent, instances_for_rate, wanted_instances

SECONDS_WORTH_A_LAUNCH = 20.0  # EC2 bills a minute at least, and a boot takes some 40 s of it
GAPS = 4.0  # mean gaps between requests without a request, after which no more are expected
REQUESTS_FOR_A_GAP = 20


def images_worth_a_launch(images_per_instance: int, images_per_second: float) -> int:
    """What an instance of this speed does in the time that its launch pays for; the setting at least."""
    return max(images_per_instance, int(images_per_second * SECONDS_WORTH_A_LAUNCH))


def backlog_after_boot(
    backlog: int, arriving: float, running: int, images_per_second: float, boot_seconds: float
) -> int:
    """What will wait when an instance that is launched now is ready, if those that run do not suffice."""
    growth = (arriving - running * images_per_second) * boot_seconds
    return backlog + max(0, ceil(growth))


def wanted_at_rate(
    backlog: int,
    arriving: float,
    running: int,
    images_per_second: float,
    boot_seconds: float,
    images_per_instance: int,
    maximum: int,
) -> int:
    """Enough for the backlog that there will be, and for what goes on coming; never above the maximum.

    Monotone in the backlog and in the rate. For a lone request, it is the formula of scaling.py.
    """
    expected = backlog_after_boot(backlog, arriving, running, images_per_second, boot_seconds)
    worth = images_worth_a_launch(images_per_instance, images_per_second)
    for_rate = instances_for_rate(arriving, images_per_second)
    return min(maximum, max(wanted_instances(expected, worth, maximum), for_rate))


def next_request_within(sent: Sequence[Sent], longest: float) -> float:
    """For how many seconds after the last request another one of the same stream is to be expected.

    0 for what comes alone, or all at once: that leaves nothing to wait for.
    """
    requests, oldest = 0, 0.0
    for older, newer in zip(reversed(sent[:-1]), reversed(sent), strict=False):
        requests, oldest = requests + newer.requests, older.age
        if requests >= REQUESTS_FOR_A_GAP:
            break
    if requests < 2:
        return 0.0
    return min(GAPS * (oldest - sent[-1].age) / requests, longest)
