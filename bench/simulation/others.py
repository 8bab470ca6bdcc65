"""The policies that ours is compared with, each by its documentation; see ../simulation.md for sources.

Their instances stop as gently as ours do, and where they may choose, they let go those that do least.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from bench.simulation.ec2 import Instance
from bench.simulation.world import Policy, World

TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance
STABILIZATION_SECONDS = 300.0
COOLDOWN_SECONDS = 300.0
SYNC_SECONDS, POLLING_SECONDS = 15.0, 30.0
METRIC_SECONDS = 60.0
HIGH_POINTS, LOW_POINTS = 3, 15  # datapoints of a minute until target tracking's alarms act
LOW_SHARE = 0.9  # of the target, where the low alarm is


class Plain(Policy):
    """At each request: launch for what is visible, less those that run; what boots does not count.

    When a request is answered and nothing is visible: terminate all that run. Its counts have no lag.
    """

    name = "plain"

    def sent(self, world: World) -> None:
        p = world.parameters
        running = len(world.ec2.active) - world.ec2.pending(world.now)
        world.launch(plain_launches(world.queue.visible, running, p.images_per_instance, p.maximum))

    def answered(self, world: World) -> None:
        if not world.queue.visible:
            world.terminate([i for i in world.ec2.active if i.running <= world.now])


def plain_launches(visible: int, running: int, images_per_instance: int, maximum: int) -> int:
    return max(0, min(maximum, ceil(visible / images_per_instance)) - running)


class TargetTracking(Policy):
    """AWS's recipe: a metric each minute of visible messages per instance in service, and a target for it.

    At least one instance. `images_per_instance` is the target: the acceptable backlog per instance.
    """

    name = "target tracking"
    interval = METRIC_SECONDS

    def __init__(self) -> None:
        self.metric: deque[float] = deque(maxlen=LOW_POINTS)

    def start(self, world: World) -> None:
        world.start_warm(1)

    def look(self, world: World) -> None:
        in_service = sum(i.ready <= world.now for i in world.ec2.active)
        self.metric.append(world.queue.counts(world.now)[0] / max(1, in_service))
        p, active = world.parameters, len(world.ec2.active)
        desired = tracked_instances(self.metric, in_service, active, p.images_per_instance, p.maximum)
        if desired > active:
            world.launch(desired - active)
        else:
            world.terminate(least_needed(world, active - desired))


def tracked_instances(metric: deque[float], in_service: int, active: int, target: float, maximum: int) -> int:
    """Out in proportion, in by a tenth at most (AWS: "more gradually"), and not while any boots."""
    points = list(metric)
    if len(points) >= HIGH_POINTS and min(points[-HIGH_POINTS:]) > target:
        return max(active, min(maximum, ceil(in_service * points[-1] / target)))
    if len(points) == LOW_POINTS and max(points) < LOW_SHARE * target and in_service == active:
        return max(1, ceil(in_service * points[-1] / target), active - max(1, active // 10))
    return active


class KedaHpa(Policy):
    """KEDA's SQS scaler (visible and in flight, from 0 to 1 and back) and HPA's rules between."""

    name = "KEDA + HPA"
    interval = SYNC_SECONDS

    def __init__(self) -> None:
        self.recommended: deque[tuple[float, int]] = deque()
        self.last_active = 0.0

    def look(self, world: World) -> None:
        messages, active = sum(world.queue.counts(world.now)), len(world.ec2.active)
        if messages:
            self.last_active = world.now
        if not active:
            if messages and world.now % POLLING_SECONDS == 0:
                world.launch(1)
        elif world.now - self.last_active >= COOLDOWN_SECONDS:
            world.terminate(world.ec2.active)
            self.recommended.clear()
        else:
            self.sync(world, messages, active)

    def sync(self, world: World, messages: int, active: int) -> None:
        p = world.parameters
        recommended = hpa_recommendation(messages, active, p.images_per_instance, p.maximum)
        self.recommended.append((world.now, recommended))
        while world.now - self.recommended[0][0] > STABILIZATION_SECONDS:
            self.recommended.popleft()
        desired = hpa_instances(recommended, active, max(n for _, n in self.recommended))
        if desired > active:
            world.launch(desired - active)
        else:
            world.terminate(least_needed(world, active - desired))


def hpa_recommendation(messages: int, active: int, target: int, maximum: int) -> int:
    if abs(messages / (target * active) - 1) <= TOLERANCE:
        return active
    return max(1, min(maximum, ceil(messages / target)))


def hpa_instances(recommended: int, active: int, highest_lately: int) -> int:
    """Up by 100% or 4 at once, whichever is more; down to the highest recommendation of 5 minutes."""
    if recommended > active:
        return min(recommended, max(2 * active, active + 4))
    return min(active, highest_lately)


class Fixed(Policy):
    def __init__(self, name: str, instances: int) -> None:
        self.name, self.instances = name, instances

    def start(self, world: World) -> None:
        world.start_warm(self.instances)


def least_needed(world: World, count: int) -> list[Instance]:
    """Returns `count` instances: those that boot, the newest first, then idle ones, then the others."""
    alive = [i for i in world.ec2.active if not i.draining]
    alive.sort(key=lambda i: (bool(i.hand), i.ready <= world.now, -i.ready))
    return alive[:count]
