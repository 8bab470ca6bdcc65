"""Decides what to do with the fleet: `plan` is a pure function, without a clock and without AWS.

The autoscaler calls it with what it observes of the real fleet, and bench/simulation with what it observes of
a simulated one.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Literal

from cloud.prices import INSTANCE_HOUR
from controller.autoscaling.batch_demand import BatchDemand, Means, demand_of_batches
from controller.autoscaling.observation import Observation, ObservedInstance
from controller.autoscaling.rate_scaling import (
    Load,
    arriving_now,
    held_instances,
    instances_for_load,
)
from controller.autoscaling.scaling import (
    PAID_SECONDS,
    arriving_per_second,
    instances_for_rate,
    instances_to_launch,
    instances_to_terminate,
    wanted_instances,
)
from controller.autoscaling.wording import some

BUSY_SECONDS = 2.0  # until the next run while images wait or instances exist
BATCH_SECONDS = 5.0  # until the next run while there are only batches, and as many instances as they call for
IDLE_SECONDS = 30.0  # until the next run otherwise
MAX_NOT_READY = 3  # consecutive instances that never got ready, after which images are answered `failed`
CONSOLE = "The last one's console output says why: aws ec2 get-console-output --latest --instance-id"


@dataclass(frozen=True)
class Policy:
    """The settings that a plan follows."""

    max_instances: int
    max_images_per_instance: int
    boot_timeout: float
    """Seconds after its launch at which an instance whose worker has never reported is replaced."""
    silent_after: float
    """Seconds after its last report at which a worker is presumed dead."""
    scaling: Literal["queue", "rate"] = "queue"
    """What decides how many instances there are: the backlog alone, or also how fast images come."""
    batch_share: int = 80
    """Percent of the maximum that batches with neither deadline nor budget may call for."""
    dollars_per_hour: float = INSTANCE_HOUR
    """What one instance costs, for the budgets of batches."""
    spot: bool = False
    """Whether spot instances are launched unless a batch asks for others."""


@dataclass(frozen=True)
class Plan:
    """What one run of the autoscaler should do, and the reasons in words."""

    wanted: int = 0
    """The number of instances that the backlog or the batches call for, whichever is greater."""
    called_for: int = 0
    """The same, or the number that the rate of arrivals calls for, if it is greater."""
    launch: int = 0
    """The number of instances to launch."""
    spot: bool | None = None
    """Whether these should be spot instances, as a batch asks for. None: MARKET decides."""
    terminate: tuple[str, ...] = ()
    """The ids of the instances to terminate."""
    late: tuple[str, ...] = ()
    """Those of them that were not ready within the boot timeout."""
    fail: str = ""
    """The reason with which all waiting images are to be answered `failed`, or "" to let them wait."""
    pause: str = ""
    """The reason for which nothing is to be launched for a while although batches wait, or ""."""
    next_run_in: float = IDLE_SECONDS
    """Seconds until the next run, unless something wakes the autoscaler earlier."""
    reasons: tuple[str, ...] = ()


def plan(observation: Observation, policy: Policy) -> Plan:
    """Returns what to do about `observation`.

    Instances that will do no work are terminated first; the next run, which follows at once, decides the rest
    from what EC2 then shows. If images wait, instances are launched for them, or the images are given up
    because launching does not help. If none wait, the fleet is terminated, except for what open requests
    still need. With SCALING=rate, instances also stay for as long as it may pay. What batches call for is
    launched and stays in any case. If launching does not help, they wait for the next try.
    """
    lost = [i for i in observation.instances if is_lost(i, policy)]
    if lost:  # they are no help, but count for the maximum
        alive = [i for i in observation.instances if i not in lost]
        observation = replace(observation, instances=alive)
        policy = replace(policy, max_instances=max(0, policy.max_instances - len(lost)))
    by_rate, backlog = policy.scaling == "rate", observation.counts.backlog
    batches = demand_of_batches(observation.batches, means_for_batches(observation, policy))
    waiting = wanted_instances(backlog, policy.max_images_per_instance, policy.max_instances)
    if by_rate:
        waiting = demand_by_rate(observation, policy)
    wanted = called_for = max(waiting, batches.instances)
    if not by_rate:
        called_for = max(wanted, instances_for_arrivals(observation))
    overdue = terminate_overdue(observation, policy)
    if overdue.terminate:
        return replace(overdue, wanted=wanted, called_for=called_for, next_run_in=0.0)
    reason = why_no_worker_comes(observation, policy) if backlog or batches.instances else ""
    if reason:
        found = Plan(fail=reason) if backlog else Plan(pause=reason, reasons=(reason,))
    elif by_rate:
        found = scale_by_rate(observation, waiting, batches, policy)
    elif not backlog and not batches.instances:
        found = scale_in(observation, policy)
    else:
        found = scale_out(observation, waiting, called_for, batches, policy)
    reasons = batches.reasons + found.reasons
    found = replace(found, wanted=wanted, called_for=called_for, reasons=reasons)
    return replace(found, next_run_in=next_run_in(observation, found))


def next_run_in(observation: Observation, found: Plan) -> float:
    """Returns the seconds until the next run. Whatever is sent or ends wakes the autoscaler earlier."""
    requests = observation.counts.backlog or observation.requests or observation.unanswered
    changes = found.launch or found.terminate or observation.ending
    if not requests and not changes and 0 < found.wanted <= sum(i.ready for i in observation.instances):
        return BATCH_SECONDS
    busy = requests or observation.batches or observation.instances or observation.ending
    return BUSY_SECONDS if busy else IDLE_SECONDS


def means_for_batches(observation: Observation, policy: Policy) -> Means:
    """Returns what there is to do batches with: the instances, their speed and their cost."""
    boot = observation.boot_seconds
    there = [0.0 if i.ready else max(0.0, boot - i.age) for i in observation.instances if not i.ending]
    return Means(
        now=observation.now,
        images_per_second=observation.best_speed,
        boot_seconds=boot,
        dollars_per_hour=policy.dollars_per_hour,
        until_ready=there + [boot] * observation.unseen,
        maximum=policy.max_instances,
        share=max(1, policy.max_instances * policy.batch_share // 100),
    )


def instances_for_arrivals(observation: Observation) -> int:
    """Returns how many instances the rate of arrivals calls for, or 0 while the speed of one is unknown."""
    speed = observation.images_per_second or observation.full_speed
    return instances_for_rate(arriving_per_second(observation.arrivals), speed) if speed else 0


def terminate_overdue(observation: Observation, policy: Policy) -> Plan:
    """Terminates instances that will do no work, and those beyond the maximum, the newest first."""
    late = ids(i for i in observation.instances if is_late(i, policy))
    silent = ids(i for i in observation.instances if is_silent(i, policy))
    overdue = late + silent
    rest = [i for i in observation.instances if i.instance_id not in overdue]
    beyond = ids(i for i in rest[policy.max_instances :] if not i.protected)
    reasons = []
    if late:
        number = some(len(late), "instance was", "instances were")
        reasons.append(f"{number} not ready within the boot timeout")
    if silent:
        reasons.append(f"{some(len(silent), 'worker has', 'workers have')} stopped reporting")
    if beyond:
        reasons.append(f"{some(len(beyond), 'instance', 'instances')} more than the maximum")
    return Plan(terminate=overdue + beyond, late=late, reasons=tuple(reasons))


def is_late(instance: ObservedInstance, policy: Policy) -> bool:
    return instance.stays and not instance.ready and instance.age > policy.boot_timeout


def is_silent(instance: ObservedInstance, policy: Policy) -> bool:
    return instance.stays and instance.ready and instance.silent > policy.silent_after


def is_lost(instance: ObservedInstance, policy: Policy) -> bool:
    """Returns whether the instance will do no work, and EC2 does not let it go."""
    asked_again = replace(instance, protected=False)
    return instance.protected and (is_late(asked_again, policy) or is_silent(asked_again, policy))


def scale_in(observation: Observation, policy: Policy) -> Plan:
    """Terminates the instances whose request is answered, while no image is in the queue.

    SQS may not count yet what another process has just sent. The open requests are therefore left as many
    instances as they need.
    """
    instances, unanswered = observation.instances, observation.unanswered
    if not observation.quiet:
        return Plan(reasons=("new work has come, so that nothing is terminated",))
    if not instances and not unanswered:
        return Plan(reasons=("nothing waits and nothing runs",))
    reasons = ["the queue is empty, and nothing is in flight"]
    if unanswered:
        reasons.append(f"{some(len(unanswered), 'request is', 'requests are')} not answered yet")
    free = [i for i in instances if i.request_id not in unanswered]
    needed = wanted_instances(sum(unanswered.values()), policy.max_images_per_instance, policy.max_instances)
    needless = ids(first_to_go(free)[: max(0, len(instances) - needed)])
    if needless:
        reasons.append(f"{some(len(needless), 'instance has', 'instances have')} nothing left to do")
    return Plan(terminate=needless, reasons=tuple(reasons))


def why_no_worker_comes(observation: Observation, policy: Policy) -> str:
    """Returns the reason for which no worker will ever take what waits, or "" if one still may."""
    if observation.instances:
        return ""
    if observation.given_up and observation.now < observation.given_up_until:
        again = datetime.fromtimestamp(observation.given_up_until, UTC)
        return (
            f"{observation.given_up} The next try is at {again:%H:%M:%S} UTC, or when the controller starts"
            " with other settings."
        )
    if observation.cannot_launch and launches_later(observation):
        return observation.cannot_launch
    count = len(observation.not_ready)
    if count >= MAX_NOT_READY:
        return (
            f"Workers fail to start: {count} in a row never got ready. {CONSOLE} {observation.not_ready[-1]}"
        )
    if not policy.max_instances:
        return (
            "MAX_INSTANCES allows no more instances, but no worker reports, and EC2 does not let their"
            " instances be terminated."
        )
    return ""


def scale_out(
    observation: Observation, waiting: int, called_for: int, batches: BatchDemand, policy: Policy
) -> Plan:
    """Launches what backlog and batches call for, or terminates what the load has not called for lately.

    `waiting` are the instances that the backlog calls for.
    """
    reasons = []
    if observation.counts.backlog:
        called = some(observation.counts.backlog, "image calls", "images call")
        reasons.append(
            f"{called} for {some(waiting, 'instance', 'instances')}: one for each"
            f" {policy.max_images_per_instance}, at most {policy.max_instances}"
        )
    count, spot = missing_instances(observation, waiting, batches, policy)
    if count and (obstacle := launch_obstacle(observation)):
        reasons.append(obstacle)
        count = 0
    unanswered = sum(observation.unanswered.values())
    needed = wanted_instances(unanswered, policy.max_images_per_instance, policy.max_instances)
    needless = surplus(observation, max(called_for, needed))
    if needless:
        number = some(len(needless), "instance", "instances")
        reasons.append(f"{number} more than the load has called for lately")
    return Plan(launch=count, spot=spot, terminate=needless, reasons=tuple(reasons))


def demand_by_rate(observation: Observation, policy: Policy) -> int:
    """Returns how many instances arrivals and backlog call for, at most the maximum.

    While the speed of a worker is unknown, the backlog alone does.
    """
    backlog = max(observation.counts.backlog, sum(observation.unanswered.values()))
    speed, boot = observation.best_speed, observation.boot_seconds
    if speed is None:
        return wanted_instances(backlog, policy.max_images_per_instance, policy.max_instances)
    ready = sum(i.ready for i in observation.instances)
    booting = [max(0.0, boot - i.age) for i in observation.instances if not i.ready]
    load = Load(
        backlog, arriving_now(observation.arrivals), speed, boot, ready, booting + [boot] * observation.unseen
    )
    return min(policy.max_instances, instances_for_load(load))


def scale_by_rate(observation: Observation, demand: int, batches: BatchDemand, policy: Policy) -> Plan:
    """Launches what the demand calls for, or terminates what it has not called for while a boot takes.

    `demand` is that of arrivals and backlog. Without a backlog, only batches call for launches.
    """
    instances, backlog = observation.instances, observation.counts.backlog
    reasons = ["the queue is empty, and nothing is in flight"]
    if backlog:
        waits, arriving = some(backlog, "image waits", "images wait"), arriving_now(observation.arrivals)
        calls = f"that calls for {some(demand, 'instance', 'instances')}"
        reasons = [f"{waits}, and {arriving:.2g} arrive a second: {calls}"]
    count, spot = missing_instances(observation, demand if backlog else 0, batches, policy)
    if count and (obstacle := launch_obstacle(observation)):
        reasons.append(obstacle)
        count = 0
    demand = max(demand, batches.instances)
    held = max(demand, held_instances(observation.levels, observation.boot_seconds))
    needless: tuple[str, ...] = ()
    if backlog or batches.instances or observation.quiet:
        free = [i for i in instances if i.age >= PAID_SECONDS and i.request_id not in observation.unanswered]
        needless = ids(first_to_go(free)[: max(0, len(instances) - held)])
    if needless:
        number = some(len(needless), "instance was", "instances were")
        reasons.append(f"{number} not called for in the time that a boot takes")
    elif len(instances) > demand:
        reasons.append(f"{some(len(instances), 'instance stays', 'instances stay')} while that may pay")
    return Plan(launch=count, spot=spot, terminate=needless, reasons=tuple(reasons))


def missing_instances(
    observation: Observation, waiting: int, batches: BatchDemand, policy: Policy
) -> tuple[int, bool | None]:
    """Returns how many instances to launch, and whether they should be spot instances. None: MARKET decides.

    `waiting` instances are for requests, and those that batches call for beyond them are as these ask. The
    instances that there are count first for what asks for their market. If instances of both markets are
    missing, the next run launches the others.
    """
    instances, unseen = observation.instances, observation.unseen
    wishes = [*[None] * waiting, *batches.spot[waiting:]]
    there, missing = Counter(i.spot for i in instances), []
    for wish in wishes:
        spot = policy.spot if wish is None else wish
        if there[spot]:
            there[spot] -= 1
        else:
            missing.append((spot, wish))
    missing = missing[unseen:][: instances_to_launch(len(wishes), len(instances) + unseen)]
    alike = list(takewhile(lambda one: one[0] == missing[0][0], missing))
    return len(alike), alike[0][1] if alike else None


def launch_obstacle(observation: Observation) -> str:
    """Returns why nothing may be launched now, or "" if it may."""
    before = observation.no_launch_before
    if before is not None and launches_later(observation):
        return f"the next try to launch is at {datetime.fromtimestamp(before, UTC):%H:%M:%S}"
    if len(observation.not_ready) >= MAX_NOT_READY:
        return "too many instances never got ready: none is launched until one does"
    return ""


def launches_later(observation: Observation) -> bool:
    """Returns whether the next try to launch is not due yet. Until then its last result holds."""
    before = observation.no_launch_before
    return before is not None and observation.now < before


def surplus(observation: Observation, called_for: int) -> tuple[str, ...]:
    """Returns the instances that nothing has called for lately. They finish what they have in hand."""
    if observation.best_speed is None:
        return ()
    instances = observation.instances
    count = instances_to_terminate([*observation.called_for_lately, called_for], [i.age for i in instances])
    free = [i for i in instances if i.age >= PAID_SECONDS and i.request_id not in observation.unanswered]
    return ids(first_to_go(free)[:count])


def first_to_go(instances: Iterable[ObservedInstance]) -> list[ObservedInstance]:
    """Returns the instances in the order in which they should go.

    First come those that EC2 still shows although they were told to go, then those whose worker is not ready
    yet, and then the oldest. Those that EC2 does not let go are left out: others go in their place.
    """
    return sorted((i for i in instances if not i.protected), key=lambda i: (not i.ending, i.ready))


def ids(instances: Iterable[ObservedInstance]) -> tuple[str, ...]:
    return tuple(i.instance_id for i in instances)
