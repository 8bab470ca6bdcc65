"""What the arrivals of the past would have cost with another policy. It uses no AWS and no clock.

The planner decides, as it does for the real fleet. Workers are a flow: each one that is ready takes its share
of the backlog at the measured speed. It takes a few tenths of a second to replay a busy day.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil, exp, inf

from controller.autoscaling.demand import Demand
from controller.autoscaling.fleet_history import Sent, SentByMinute
from controller.autoscaling.instance_ledger import billed
from controller.autoscaling.observation import Counts, Observation, ObservedInstance
from controller.autoscaling.planner import Policy, plan

STEP_SECONDS = 20.0  # between two plans; what is sent in a minute is spread over its steps
GAP_SECONDS = 0.5  # without a request, after which a queue that is empty is noticed to be
PLAN_EFFORT = 15  # of a plan; that of each instance which it observes is 1
MOST_EFFORT = 250_000  # of a replay, which bounds its time: a few tenths of a second


class TooMuch(Exception):
    """The fleet is too large to be replayed in a short time."""


@dataclass(frozen=True)
class Worker:
    images_per_second: float
    boot_seconds: float


def billed_seconds(sent: SentByMinute, policy: Policy, worker: Worker) -> float:
    """Returns the seconds of instances that EC2 would have billed. Raises TooMuch."""
    fleet = Fleet(replace(policy, boot_timeout=inf, silent_after=inf), worker)
    for step, now_sent in steps(sent):
        fleet.idle_until(step)
        fleet.step(step, now_sent)
    fleet.idle_until(inf)
    return fleet.billed


def steps(sent: SentByMinute) -> Iterator[tuple[float, Sent]]:
    """Yields the time of each step in which something was sent, in seconds, and what."""
    many = int(60 // STEP_SECONDS)
    for minute in sorted(sent):
        requests, images = sent[minute]
        for n in range(many):
            share = images * (n + 1) // many - images * n // many
            if share:
                yield minute * 60 + n * STEP_SECONDS, Sent(ceil(requests / many), share)


@dataclass
class Fleet:
    """An imagined fleet. Its times are in seconds."""

    policy: Policy
    worker: Worker
    demand: Demand = field(default_factory=Demand)
    launched: list[float] = field(default_factory=list)
    """When the instances were launched, the oldest first."""
    backlog: float = 0.0
    now: float = -inf
    billed: float = 0.0
    effort: int = 0

    def idle_until(self, time: float) -> None:
        """Goes on without arrivals until `time`, or until nothing waits and nothing runs."""
        while self.now + STEP_SECONDS < time and (self.launched or self.backlog):
            self.step(self.now + STEP_SECONDS, Sent())

    def step(self, now: float, sent: Sent) -> None:
        """Images come all through the step: a plan at its beginning sees what came in a moment."""
        self.now = now
        self.demand.note_sent(min(1, sent.images), sent.images, now)
        self.plan(now, ceil(self.backlog + sent.images * GAP_SECONDS / STEP_SECONDS))
        self.backlog += sent.images
        done_at = self.work()
        if not self.backlog and is_noticed(sent.requests):
            self.plan(done_at, 0)

    def plan(self, now: float, backlog: int) -> None:
        boot = self.worker.boot_seconds
        self.effort += PLAN_EFFORT + len(self.launched)
        if self.effort > MOST_EFFORT:
            raise TooMuch
        observation = Observation(
            now,
            Counts(backlog, 0, 0, 0, 0, 0),
            instances=[
                ObservedInstance(str(n), now - at, ready=now - at >= boot)
                for n, at in enumerate(self.launched)
            ],
            arrivals=self.demand.arrivals(now),
            called_for_lately=self.demand.called_for_lately(now),
            levels=self.demand.levels(now),
            boot_seconds=boot,
            images_per_second=self.worker.images_per_second,
        )
        made = plan(observation, self.policy)
        self.demand.note_called_for(made.called_for, now)
        ending = {int(name) for name in made.terminate}
        self.billed += sum(billed(now - self.launched[n]) for n in ending)
        self.launched = [at for n, at in enumerate(self.launched) if n not in ending] + [now] * made.launch

    def work(self) -> float:
        """Does what can be done until the next step. Returns when all is done, or the time of that step."""
        end, speed = self.now + STEP_SECONDS, self.worker.images_per_second
        begins = [max(self.now, at + self.worker.boot_seconds) for at in self.launched]
        begins = [at for at in begins if at < end]
        can_do = speed * sum(end - at for at in begins)
        if not self.backlog or can_do < self.backlog:
            self.backlog -= min(can_do, self.backlog)
            return self.now if not self.backlog else end
        spare = (can_do - self.backlog) / (speed * len(begins))
        self.backlog = 0.0
        return max(self.now, *begins, end - spare)


def is_noticed(requests: int) -> bool:
    """Returns whether an empty queue is noticed between the requests of a step, which come by chance."""
    return requests * exp(-GAP_SECONDS * requests / STEP_SECONDS) >= 1 or not requests
