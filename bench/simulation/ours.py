"""Our policy: calls the functions of controller/autoscaling/scaling.py in the order in which its autoscaler
does.
"""

from __future__ import annotations

from collections import deque
from math import inf

from bench.simulation.policy import Policy
from bench.simulation.proposal import next_request_within, wanted_at_rate
from bench.simulation.world import World
from controller.autoscaling.autoscaler import BUSY_SECONDS, QUIET_AGAIN_SECONDS
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS
from controller.autoscaling.scaling import (
    HOLD_SECONDS,
    Seen,
    Sent,
    arriving_per_second,
    instances_for_rate,
    instances_to_end,
    instances_to_launch,
    wanted_instances,
)
from controller.image_requests.polling import LAG_SECONDS

SENT_STEP, SENT_KEPT = 2.0, 300.0  # seconds
KNOWN_IMAGES = 100  # how many images' times are known from an earlier load


class Ours(Policy):
    name = "ours"
    interval = BUSY_SECONDS
    idle_shutdown = True

    def __init__(self) -> None:
        self.no_launch_before = -inf
        self.quiet_since: tuple[float, int] | None = None
        """When the queue was first seen quiet, and how many requests had been sent by then."""
        self.sent_lately: deque[tuple[float, int, int]] = deque()
        """(time of the last request, requests, images), a few seconds together."""
        self.known = 0, 0
        """Requests and images that had been sent by the last look."""
        self.wanted_lately: deque[tuple[float, int]] = deque()

    def sent(self, world: World) -> None:
        world.wake()

    def answered(self, world: World) -> None:
        world.wake()

    def look(self, world: World) -> None:
        sent, seen, p = self.note_sent(world), self.see(world), world.parameters
        if seen.quiet:
            self.scale_in(world)
            return
        self.quiet_since = None
        wanted = wanted_instances(seen.backlog, p.images_per_instance, p.maximum)
        self.scale_out(world, seen, wanted)
        self.end_surplus(world, max(wanted, instances_for_rate(arriving_per_second(sent), self.speed(world))))

    def speed(self, world: World) -> float:
        """Images per second of one instance, as learned so far."""
        known = KNOWN_IMAGES / world.parameters.images_per_second
        return (world.classified + KNOWN_IMAGES) / (world.busy_seconds + known)

    def see(self, world: World) -> Seen:
        visible, in_flight = world.queue.counts(world.now)
        pending = world.ec2.pending(world.now)
        running = len(world.ec2.active) - pending
        return Seen(visible, in_flight, 0, world.unanswered_since(LAG_SECONDS), pending, running)

    def scale_out(self, world: World, seen: Seen, wanted: int) -> None:
        count = instances_to_launch(wanted, seen.active)
        if count and world.now >= self.no_launch_before and not world.launch(count):
            self.no_launch_before = world.now + CAPACITY_AGAIN_SECONDS

    def scale_in(self, world: World) -> None:
        """The queue must be quiet twice, with no request between."""
        if not world.ec2.active:
            return
        if self.quiet_since is None or self.quiet_since[1] != world.requests_sent:
            self.quiet_since = world.now, world.requests_sent
        again = self.quiet_since[0] + QUIET_AGAIN_SECONDS
        if world.now < again:
            world.look_at(again)
        else:
            world.terminate(world.ec2.active)
            self.quiet_since = None

    def note_sent(self, world: World) -> list[Sent]:
        requests, images = world.requests_sent - self.known[0], world.queue.sent - self.known[1]
        self.known = world.requests_sent, world.queue.sent
        lately = self.sent_lately
        if requests:
            if lately and lately[-1][0] // SENT_STEP == world.now // SENT_STEP:
                _, more_requests, more_images = lately.pop()
                requests, images = requests + more_requests, images + more_images
            lately.append((world.now, requests, images))
        while lately and world.now - lately[0][0] > SENT_KEPT:
            lately.popleft()
        return [Sent(world.now - time, n, m) for time, n, m in lately]

    def end_surplus(self, world: World, wanted: int) -> None:
        lately = self.wanted_lately
        lately.append((world.now, wanted))
        while world.now - lately[0][0] > HOLD_SECONDS:
            lately.popleft()
        oldest_first = [i for i in world.ec2.active if not i.draining]
        ages = [world.now - i.launched for i in oldest_first]
        world.terminate(oldest_first[: instances_to_end([n for _, n in lately], ages)])


class Proposal(Ours):
    """Knows also how fast images come and go, and lets go whom neither rate nor backlog needs."""

    def __init__(self, *, waits: bool) -> None:
        """`waits`: whether a quiet fleet is kept while another request is to be expected."""
        super().__init__()
        self.name = "proposal, waiting" if waits else "proposal"
        self.waits = waits

    def look(self, world: World) -> None:
        sent = self.note_sent(world)
        seen = self.see(world)
        if seen.quiet and not self.another_is_expected(world, sent):
            self.scale_in(world)
            return
        self.quiet_since = None
        p = world.parameters
        speed = self.speed(world)
        rate = arriving_per_second(sent)
        wanted = wanted_at_rate(
            seen.backlog, rate, seen.running, speed, p.cold_seconds, p.images_per_instance, p.maximum
        )
        self.scale_out(world, seen, wanted)
        self.end_surplus(world, wanted)

    def another_is_expected(self, world: World, sent: list[Sent]) -> bool:
        if not (self.waits and sent):
            return False
        return sent[-1].age < next_request_within(sent, world.parameters.idle_shutdown)
