"""Workers between queue and EC2, event by event.

A worker receives up to 10 messages and classifies them in batches of 5; an image is answered when its
batch is. Where an image of the trace stands for a block, a worker receives one block at a time. All runs of
one trace and seed have the same work for each image and the same boot time for the n-th launch, whatever the
policy.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import inf
from random import Random

import numpy as np

from bench.simulation.ec2 import Ec2, Instance
from bench.simulation.luck import draw_work
from bench.simulation.parameters import Parameters
from bench.simulation.sqs import Queue
from bench.simulation.traces import Trace

GRACE = 3600.0  # seconds after the trace's end, for what still waits


class Policy:
    """A scaling policy. `look` is called every `interval` seconds, and when the policy wakes the world."""

    name = "nothing"
    interval = inf
    idle_shutdown = False
    """Whether a worker without work shuts its instance down."""
    warm_pool = 0
    """How many instances are stopped instead of terminated, at most."""

    def start(self, world: World) -> None: ...

    def sent(self, world: World) -> None:
        """Is called when a request's images were sent."""

    def answered(self, world: World) -> None:
        """Is called when a request's last image was answered."""

    def look(self, world: World) -> None: ...


class World:
    def __init__(self, trace: Trace, policy: Policy, parameters: Parameters, seed: int) -> None:
        self.trace, self.policy, self.parameters = trace, policy, parameters
        self.work = draw_work(trace, parameters, seed).tolist()
        self.queue = Queue(parameters.counts_lag)
        self.ec2 = Ec2(parameters, seed)
        self.random = Random(seed)
        self.now = 0.0
        self.events: list[tuple[float, int, str, Instance | None]] = []
        self.event_number = 0
        self.requests_sent = 0
        self.request_of = np.repeat(np.arange(len(trace.times)), trace.images).tolist()
        self.unanswered_of = trace.images.tolist()
        self.answered_at = np.full(trace.total, inf)
        self.idle: list[Instance] = []
        self.busy_seconds, self.classified = 0.0, 0
        self.boots: list[float] = []
        """How long each boot took that has ended, from the launch on."""
        self.looked = self.next_look = -inf

    def unanswered_since(self, seconds: float) -> int:
        """Returns the unanswered images of the requests of the last `seconds`."""
        first = self.trace.images_before(self.now - seconds)
        return int(np.count_nonzero(self.answered_at[first : self.queue.sent] == inf))

    def launch(self, count: int) -> int:
        """Returns how many EC2 starts."""
        return self.enlist(self.ec2.launch(count, self.now))

    def start_warm(self, count: int) -> None:
        """Instances that are ready when the trace begins; their boot is billed."""
        boot = self.parameters.boot_seconds
        self.enlist([self.ec2.add(0.0, -boot, boot) for _ in range(count)])

    def enlist(self, instances: list[Instance]) -> int:
        for instance in instances:
            self.at(instance.ready, "ready", instance)
        return len(instances)

    def terminate(self, instances: Iterable[Instance]) -> None:
        """A worker at work finishes its batch and gives the rest back."""
        for instance in list(instances):
            instance.draining = True
            if not instance.hand:
                self.end(instance)

    def look_at(self, time: float) -> None:
        """Asks for a look no later than that."""
        if time < self.next_look or self.next_look <= self.looked:
            self.next_look = time
            self.at(time, "look")

    def wake(self) -> None:
        """Looks at once, or when the look that is going on is over."""
        self.look_at(max(self.now, self.looked + self.parameters.look_seconds))

    def run(self) -> None:
        times, sizes = [*self.trace.times.tolist(), inf], self.trace.images.tolist()
        last = self.trace.seconds + GRACE
        self.policy.start(self)
        self.look_at(0.0)
        while True:
            arrival = times[self.requests_sent]
            self.now = min(arrival, self.events[0][0] if self.events else inf)
            waits = self.queue.visible or self.queue.in_flight or arrival < inf
            if self.now > last or (self.now > self.trace.seconds and not waits):
                break
            if arrival <= self.now:
                self.arrive(sizes[self.requests_sent])
            else:
                self.happen(*heapq.heappop(self.events)[2:])
        answered = np.max(self.answered_at, where=self.answered_at < inf, initial=self.trace.seconds)
        self.now = min(self.now, float(answered), last)
        for instance in list(self.ec2.active):
            self.ec2.end(instance, self.now)

    def at(self, time: float, kind: str, instance: Instance | None = None) -> None:
        self.event_number += 1
        heapq.heappush(self.events, (time, self.event_number, kind, instance))

    def happen(self, kind: str, instance: Instance | None) -> None:
        if instance is None:
            if self.now == self.next_look:
                self.look()
        elif instance.ended < inf:
            return
        elif kind == "batch":
            self.answer(instance)
        elif kind == "ready":
            self.boots.append(self.now - instance.launched)
            self.free(instance)
            if self.policy.idle_shutdown:
                self.at(self.now + self.parameters.idle_shutdown, "idle?", instance)
        else:
            self.end_if_idle(instance)

    def look(self) -> None:
        self.looked = self.now
        self.policy.look(self)
        if self.next_look <= self.looked:
            self.look_at(self.now + self.policy.interval)

    def arrive(self, images: int) -> None:
        self.requests_sent += 1
        self.queue.sent += images
        self.end_long_polls()
        self.queue.remember(self.now)
        self.policy.sent(self)

    def end_long_polls(self) -> None:
        """SQS spreads the messages over the workers that wait for some."""
        while self.idle and self.queue.visible:
            share = min(self.parameters.hand, -(-self.queue.visible // len(self.idle)))
            instance = self.idle[self.random.randrange(len(self.idle))]
            self.unlist(instance)
            self.receive(instance, share)

    def receive(self, instance: Instance, count: int) -> None:
        instance.hand = self.queue.receive(count)
        self.start_batch(instance)

    def start_batch(self, instance: Instance) -> None:
        seconds = sum(self.work[image] for image in instance.hand[: self.parameters.batch])
        self.busy_seconds += seconds
        self.at(self.now + seconds, "batch", instance)

    def answer(self, instance: Instance) -> None:
        size = self.parameters.batch
        batch, instance.hand = instance.hand[:size], instance.hand[size:]
        self.queue.delete(len(batch))
        self.classified += len(batch)
        self.answered_at[batch] = self.now
        complete = False
        for image in batch:
            request = self.request_of[image]
            self.unanswered_of[request] -= 1
            complete = complete or not self.unanswered_of[request]
        self.go_on(instance)
        self.queue.remember(self.now)
        if complete:
            self.policy.answered(self)

    def go_on(self, instance: Instance) -> None:
        if instance.draining:
            self.queue.give_back(instance.hand)
            self.end(instance)
            self.end_long_polls()
        elif instance.hand:
            self.start_batch(instance)
        else:
            self.free(instance)

    def free(self, instance: Instance) -> None:
        if self.queue.visible:
            self.receive(instance, self.parameters.hand)
            self.queue.remember(self.now)
        else:
            instance.idle_since, instance.idle_place = self.now, len(self.idle)
            self.idle.append(instance)

    def end_if_idle(self, instance: Instance) -> None:
        since = self.now if instance.hand else instance.idle_since
        if since + self.parameters.idle_shutdown <= self.now:
            self.end(instance)
        else:
            self.at(since + self.parameters.idle_shutdown, "idle?", instance)

    def end(self, instance: Instance) -> None:
        self.unlist(instance)
        booted = instance.ready <= self.now
        if booted and len(self.ec2.stopped) < self.policy.warm_pool:
            self.ec2.stop(instance, self.now)
        else:
            self.ec2.end(instance, self.now)

    def unlist(self, instance: Instance) -> None:
        if instance.idle_place >= 0:
            last = self.idle.pop()
            if last is not instance:
                self.idle[instance.idle_place] = last
                last.idle_place = instance.idle_place
            instance.idle_place = -1
