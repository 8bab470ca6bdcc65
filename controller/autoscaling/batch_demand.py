"""The arithmetic of batches, on plain numbers: how many instances they call for. It uses no AWS and no clock.

A batch with a deadline calls for as many as finish it in time. The others call for none that would have less
to do than a boot takes, or than EC2 bills anyway. Those that there are already need no boot: they stay while
each has a few seconds of work. A batch with a budget calls for no more than can be booted with what its work
leaves of the budget, and batches with neither call together for no more than a share of the maximum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, inf

from controller.autoscaling.scaling import PAID_SECONDS
from controller.autoscaling.wording import some
from controller.batches.load import BatchLoad

STAY_SECONDS = 5.0  # of work, for which an instance that there is stays


@dataclass(frozen=True)
class Means:
    """What there is to do batches with. All times are in seconds."""

    now: float
    """The time, counted from the same moment as the deadlines."""
    images_per_second: float | None
    """The speed of one instance, or None until it is known."""
    boot_seconds: float
    dollars_per_hour: float
    """What one instance costs."""
    until_ready: Sequence[float]
    """The seconds until each instance that there is, or that was launched, is ready. 0: it is."""
    maximum: int
    """The most instances."""
    share: int
    """The most instances for the batches that have neither deadline nor budget."""


@dataclass(frozen=True)
class BatchDemand:
    spot: tuple[bool | None, ...] = ()
    """Of each instance that batches call for, whether it should be a spot instance. None: MARKET decides."""
    reasons: tuple[str, ...] = ()

    @property
    def instances(self) -> int:
        """How many instances batches call for."""
        return len(self.spot)


def demand_of_batches(loads: Sequence[BatchLoad], means: Means) -> BatchDemand:
    """Returns how many instances batches call for, at most the maximum, and why.

    The batch whose deadline is next has the instances that there are; each other one has what is left of
    them.
    """
    waiting = [load for load in loads if load.images]
    urgent = sorted((load for load in waiting if load.deadline is not None), key=end_of)
    limited = [load for load in waiting if load.deadline is None and load.budget_left is not None]
    others = [load for load in waiting if load.deadline is None and load.budget_left is None]
    left, reasons = sorted(means.until_ready), []
    spot: list[bool | None] = []
    for load in [*urgent, *limited]:
        count, reason = instances_for_one(load, left, means)
        left = left[count:]
        spot += [load.spot] * count
        reasons.append(reason)
    if others:
        count, wish = instances_for_others(others, left, means), spot_of(others)
        spot += [wish] * count
        reasons.append(f"{images_of(others)} left: {calls_for(count, wish)}")
    return BatchDemand(tuple(spot[: means.maximum]), tuple(reasons))


def instances_for_one(load: BatchLoad, there: Sequence[float], means: Means) -> tuple[int, str]:
    """Returns how many instances a batch with a deadline or a budget calls for, and why.

    `there` are the seconds until each instance that it may have is ready, in ascending order.
    """
    subject = f"{images_of([load])} left"
    if load.budget_left is not None and load.budget_left <= 0:
        return 0, f"{subject}, but its budget is used up"
    if means.images_per_second is None:
        return 1, f"{subject}, and the speed of a worker is not known yet: {calls_for(1, load.spot)}"
    work = load.images / means.images_per_second
    count, at_most, misses = useful_instances(work, there, means), inf, ""
    if load.deadline is not None:
        needed = instances_in_time(work, load.deadline - means.now, there, means.boot_seconds)
        count = count if needed is None else needed
        subject += f", to be done by {datetime.fromtimestamp(load.deadline, UTC):%d %b %H:%M:%S} UTC"
        if needed is None or needed > means.maximum:
            misses = f", and even the maximum of {means.maximum} will not make it"
    if load.budget_left is not None:
        at_most = instances_paid_for(load.budget_left, work, there, means)
        subject += f", for at most ${load.budget_left:.2f}"
        if load.deadline is not None and at_most < min(count, means.maximum):
            misses = ", which is all that the budget pays for, and too few to make it"
    count = int(min(count, at_most, means.maximum))
    return count, f"{subject}: {calls_for(count, load.spot)}{misses}"


def instances_for_others(loads: Sequence[BatchLoad], there: Sequence[float], means: Means) -> int:
    """Returns how many instances the batches call for together that have neither deadline nor budget."""
    if means.images_per_second is None:
        return min(means.share, len(loads))
    work = sum(load.images for load in loads) / means.images_per_second
    return min(means.share, useful_instances(work, there, means))


def useful_instances(work: float, there: Sequence[float], means: Means) -> int:
    """Returns how many instances have enough to do, at least one. `work` is in seconds of one instance."""
    worth_a_boot = int(work / max(means.boot_seconds, PAID_SECONDS))
    worth_staying = min(len(there), ceil(work / STAY_SECONDS))
    return max(1, worth_a_boot, worth_staying)


def instances_in_time(work: float, seconds: float, there: Sequence[float], boot: float) -> int | None:
    """Returns how many instances do the work within `seconds`, or None if none that boots now can help."""
    for count, until_ready in enumerate(there):
        if work <= 0:
            return count
        work -= max(0.0, seconds - until_ready)
    if work <= 0:
        return len(there)
    return len(there) + ceil(work / (seconds - boot)) if seconds > boot else None


def instances_paid_for(dollars: float, work: float, there: Sequence[float], means: Means) -> float:
    """Returns how many instances can be paid for, at least one.

    The work costs the same however many do it, so what is left of the dollars pays for boots. Instances that
    are ready have theirs behind them.
    """
    price = means.dollars_per_hour / 3600
    if not price:
        return inf
    spare = dollars / price - work - sum(there)
    boots = min(means.maximum, spare / max(1.0, means.boot_seconds))  # a float, which may be infinite
    return max(1, len(there) + max(0, int(boots)))


def end_of(load: BatchLoad) -> float:
    return inf if load.deadline is None else load.deadline


def images_of(loads: Sequence[BatchLoad]) -> str:
    number = some(sum(load.images for load in loads), "image", "images")
    if any(load.listing for load in loads):
        number = f"at least {number}"
    verb = "is" if sum(load.images for load in loads) == 1 else "are"
    return f"{number} of {'a batch' if len(loads) == 1 else f'{len(loads)} batches'} {verb}"


def spot_of(loads: Sequence[BatchLoad]) -> bool | None:
    """Returns whether batches that share their instances should have spot instances. None: MARKET decides.

    If one asks for on-demand instances, they have these.
    """
    wishes = [load.spot for load in loads if load.spot is not None]
    return all(wishes) if wishes else None


def calls_for(count: int, spot: bool | None) -> str:
    market = {True: "spot ", False: "on-demand ", None: ""}[spot]
    return f"that calls for {some(count, f'{market}instance', f'{market}instances')}"
