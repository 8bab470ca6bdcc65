"""The autoscaler's own planner, which observes the simulated world instead of AWS."""

from __future__ import annotations

from math import inf
from typing import Literal

from bench.simulation.world import Policy, World
from controller.autoscaling import planner
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS
from controller.autoscaling.observation import Counts, Observation, ObservedInstance
from controller.autoscaling.observer import COUNT_AGAIN_SECONDS
from controller.image_requests.polling import LAG_SECONDS

KNOWN_IMAGES = 100  # how many images' times are known from an earlier load


class Ours(Policy):
    """Applies each plan as controller/autoscaling/autoscaler.py does: launches, terminates, and runs again
    when the plan says so, or earlier if a request is sent or answered.
    """

    def __init__(self, name: str, scaling: Literal["queue", "rate"], warm_pool: int = 0) -> None:
        self.name, self.scaling, self.warm_pool = name, scaling, warm_pool
        self.idle_shutdown = scaling == "queue"
        self.state = FleetState()
        self.booted = 0
        """How many boots `state` has noted."""
        self.no_launch_before = -inf
        self.empty_since: tuple[float, int] | None = None
        """When the queue was first counted as empty, and how many requests had been sent by then."""
        self.noted = 0, 0
        """The requests and images that had been sent by the last run."""

    def start(self, world: World) -> None:
        """The warm pool is full, as the day before has left it; its disks are paid for from now on."""
        world.ec2.stopped = [-world.parameters.stop_seconds] * self.warm_pool

    def sent(self, world: World) -> None:
        world.wake()

    def answered(self, world: World) -> None:
        world.wake()

    def look(self, world: World) -> None:
        p = world.parameters
        counts = self.count(world)
        if not counts.backlog and world.ec2.active and not self.counted_twice(world):
            return
        settings = planner.Policy(
            p.maximum, p.images_per_instance, boot_timeout=inf, silent_after=inf, scaling=self.scaling
        )
        plan = planner.plan(self.observe(world, counts), settings)
        self.state.demand.note_called_for(plan.called_for, world.now)
        if plan.terminate:
            ids = set(plan.terminate)
            world.terminate([i for i in world.ec2.active if i.instance_id in ids])
        if plan.launch and not world.launch(plan.launch):
            self.no_launch_before = world.now + CAPACITY_AGAIN_SECONDS
        world.look_at(world.now + plan.next_run_in)

    def count(self, world: World) -> Counts:
        visible, in_flight = world.queue.counts(world.now)
        pending = world.ec2.pending(world.now)
        counts = Counts(
            visible=visible,
            in_flight=in_flight,
            delayed=0,
            just_sent=world.unanswered_since(LAG_SECONDS),
            pending=pending,
            running=len(world.ec2.active) - pending,
        )
        if counts.backlog:
            self.empty_since = None
        return counts

    def counted_twice(self, world: World) -> bool:
        """Returns whether the queue has stayed empty until a second count, for which it otherwise asks."""
        if self.empty_since is None or self.empty_since[1] != world.requests_sent:
            self.empty_since = world.now, world.requests_sent
        again = self.empty_since[0] + COUNT_AGAIN_SECONDS
        if world.now < again:
            world.look_at(again)
        return world.now >= again

    def observe(self, world: World, counts: Counts) -> Observation:
        requests, images = world.requests_sent - self.noted[0], world.queue.sent - self.noted[1]
        self.noted = world.requests_sent, world.queue.sent
        demand = self.state.demand
        demand.note_sent(requests, images, world.now)
        for seconds in world.boots[self.booted :]:
            self.state.note_boot(seconds, started=False)
        self.booted = len(world.boots)
        return Observation(
            now=world.now,
            counts=counts,
            instances=[
                ObservedInstance(i.instance_id, world.now - i.launched, ready=i.ready <= world.now)
                for i in world.ec2.active
                if not i.draining
            ],
            arrivals=demand.arrivals(world.now),
            called_for_lately=demand.called_for_lately(world.now),
            levels=demand.levels(world.now),
            boot_seconds=self.state.boot_seconds or world.parameters.cold_seconds,
            images_per_second=self.speed(world),
            no_launch_before=self.no_launch_before,
        )

    def speed(self, world: World) -> float:
        """Returns the images (or blocks) per second of one instance, as learned so far."""
        known = KNOWN_IMAGES / world.parameters.images_per_second
        return (world.classified + KNOWN_IMAGES) / (world.busy_seconds + known)
