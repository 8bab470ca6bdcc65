"""look → decide → act, by one process at a time; the world is the memory.

A look reads the queue's counts, the instance list and the open requests, decides with scaling.py,
acts, and notes why. Whatever dies or fails in between costs one look: the next one sees the world as
it then is.
"""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event

from cloud.errors import CloudError
from cloud.request_queue import RequestQueue
from controller import metrics
from controller.fleet import Fleet, Instance, NoCapacity
from controller.fleet_history import FleetHistory, Sample
from controller.fleet_state import Busy, Decision, FleetState, Launched, Lease, SharedState, now
from controller.ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS, Ledger, age
from controller.open_requests import OpenRequests
from controller.recovery import Recovery
from controller.scaling import Seen, instances_to_end, instances_to_launch, wanted_instances
from controller.words import some

log = logging.getLogger(__name__)

QUIET_AGAIN_SECONDS = 0.25  # the counts are approximate, so quiet is believed when seen twice, this far apart
SPACING_SECONDS = 0.2  # what wakes it meanwhile is served by one look
BUSY_SECONDS = 2.0  # between looks while something waits or runs
REAPER_SECONDS = 30.0  # between looks otherwise
DEAD_LETTERS_SECONDS = 10.0
LEASE_WAIT_SECONDS = 5.0
SLOWEST_LAUNCH_SECONDS = 60  # between launches that EC2 refuses
MAX_LAUNCH_FAILURES = 3
MAX_NOT_READY = 3
CONSOLE = "Its console output says why: aws ec2 get-console-output --latest --instance-id"


@dataclass(frozen=True)
class Waiting:
    """What this process knows of its own requests, whatever SQS's counts say."""

    requests: tuple[str, ...] = ()
    """Their ids, the one that has waited longest first."""
    just_sent: int = 0
    """Unanswered images that were sent within the last minute."""
    submitted: int = 0
    """How many requests this process has had so far."""
    images: int = 0
    """How many images these had that were not refused at once."""


@dataclass(frozen=True)
class Policy:
    max_instances: int
    max_images_per_instance: int


@dataclass
class Look:
    state: FleetState
    instances: list[Instance]
    waiting: Waiting
    seen: Seen
    wanted: int
    launched: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    @property
    def active(self) -> list[Instance]:
        return [i for i in self.instances if i.active and i.instance_id not in self.terminated]


class Autoscaler:
    def __init__(
        self,
        queue: RequestQueue,
        fleet: Fleet,
        shared: SharedState,
        history: FleetHistory,
        ledger: Ledger,
        open_requests: OpenRequests,
        recovery: Recovery,
        policy: Policy,
        waiting: Callable[[], Waiting],
        quiet_again_seconds: float = QUIET_AGAIN_SECONDS,
    ) -> None:
        self.queue, self.fleet, self.shared = queue, fleet, shared
        self.history, self.ledger = history, ledger
        self.open_requests, self.recovery, self.policy = open_requests, recovery, policy
        self.waiting, self.quiet_again_seconds = waiting, quiet_again_seconds
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._dead_letters_at = 0.0
        self._noted = Waiting()
        self.wake = Event()
        """Set by who wants a look now: a request that was sent, or one that is answered."""

    def run(self, stop: Event) -> None:
        """Looks when woken, and now and then, until `stop` is set (and `wake`, to end at once)."""
        while not stop.is_set():
            busy = True
            try:
                busy = self.look()
            except Busy:
                log.info("another controller looks; this one looks again soon")
            except CloudError as error:
                log.warning("the look failed: %s", error)
            except Exception:
                log.exception("the look failed")
            stop.wait(SPACING_SECONDS)
            self.wake.wait(BUSY_SECONDS if busy else REAPER_SECONDS)
            self.wake.clear()

    def look(self) -> bool:
        """Returns whether anything waits, runs or shuts down, so that the next look should come soon."""
        with self.shared.hold(LEASE_WAIT_SECONDS) as lease:
            look = self._see(lease.state)
            try:
                self._end_overdue(look)
                self._answer_dead_letters(look)
                if look.seen.quiet:
                    self._scale_in(look)
                elif gave_up := self._gave_up(look):
                    self._answer_that_nobody_comes(look, gave_up)
                else:
                    self._scale_out(look, lease)
                    self._end_surplus(look)
                self.fleet.number(look.active, look.launched)
            finally:
                self._note(look)
                self._sample(look)
        return bool(look.active or look.state.launched or look.seen.backlog or look.waiting.requests)

    def _see(self, state: FleetState) -> Look:
        waiting = self.waiting()
        counts = self.queue.counts()
        instances = self.fleet.instances()
        states = [i.state for i in instances]
        seen = Seen(
            visible=counts.visible,
            in_flight=counts.in_flight,
            delayed=counts.delayed,
            just_sent=waiting.just_sent,
            pending=states.count("pending"),
            running=states.count("running"),
        )
        wanted = wanted_instances(
            seen.backlog, self.policy.max_images_per_instance, self.policy.max_instances
        )
        new_requests = waiting.submitted - self._noted.submitted
        state.demand.note_sent(new_requests, waiting.images - self._noted.images, now())
        state.demand.note_wanted(wanted, now())
        self._noted = waiting
        return Look(state, instances, waiting, seen, wanted)

    def _end_overdue(self, look: Look) -> None:
        overdue = self.ledger.update(look.state, look.instances)
        if overdue.late:
            late = some(len(overdue.late), "instance was", "instances were")
            look.why.append(f"{late} not ready within the boot timeout")
            look.state.not_ready += self._terminate(look, overdue.late)
        if overdue.silent:
            look.why.append(f"{some(len(overdue.silent), 'worker has', 'workers have')} gone silent")
            self._terminate(look, overdue.silent)
        surplus = look.active[self.policy.max_instances :]
        if surplus:
            look.why.append(f"{some(len(surplus), 'instance', 'instances')} more than the maximum")
            self._terminate(look, [i.instance_id for i in surplus])

    def _answer_dead_letters(self, look: Look) -> None:
        """Now and then while requests wait; at each look when theirs may be all that is left."""
        if look.waiting.requests and (not look.seen.counted or time.monotonic() > self._dead_letters_at):
            self._dead_letters_at = time.monotonic() + DEAD_LETTERS_SECONDS
            self.recovery.answer_dead_letters()

    def _scale_out(self, look: Look, lease: Lease) -> None:
        unseen = self.ledger.unseen(look.state, look.instances)
        count = instances_to_launch(look.wanted, len(look.active) + unseen)
        look.why.append(
            f"{some(look.seen.backlog, 'image calls', 'images call')} for"
            f" {some(look.wanted, 'instance', 'instances')}: one for each"
            f" {self.policy.max_images_per_instance}, at most {self.policy.max_instances}"
        )
        if not count:
            return
        if look.state.no_launch_before and now() < look.state.no_launch_before:
            look.why.append(f"the next try to launch is at {look.state.no_launch_before:%H:%M:%S}")
        elif len(look.state.not_ready) >= MAX_NOT_READY:
            look.why.append("too many never got ready: none is launched until one does")
        elif not lease.may_launch():
            look.why.append("this look took too long to launch safely: the next one will")
        else:
            self._launch(look, count, lease)

    def _launch(self, look: Look, count: int, lease: Lease) -> None:
        state = look.state
        request_id = next(iter(look.waiting.requests or self.open_requests.ids()), "")
        try:
            look.launched = self.fleet.launch(count, request_id, secrets.token_hex(16), lease.may_launch)
        except NoCapacity as error:
            metrics.LAUNCH_ERRORS.inc()
            state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
            state.no_capacity = str(error)
            look.why.append(f"no capacity: {error}")
        except CloudError as error:
            metrics.LAUNCH_ERRORS.inc()
            if not error.code:  # EC2 may have launched them all the same, which would show by then
                state.no_launch_before = now() + timedelta(seconds=LAUNCH_LAG_SECONDS)
                raise
            state.launch_failures += 1
            state.launch_error, state.no_capacity = str(error), ""
            seconds = min(2**state.launch_failures, SLOWEST_LAUNCH_SECONDS)
            state.no_launch_before = now() + timedelta(seconds=seconds)
            look.why.append(f"launch refused: {error}")
        else:
            metrics.LAUNCHED.inc(len(look.launched))
            state.launch_failures, state.no_launch_before, state.no_capacity = 0, None, ""
            launched = Launched(at=now(), request_id=request_id)
            state.launched |= {instance_id: launched.model_copy() for instance_id in look.launched}
            look.why += [f"the request that waits longest is {request_id}"] * bool(request_id)

    def _end_surplus(self, look: Look) -> None:
        """Lets go whom neither backlog nor arrivals have called for lately; they finish what they have."""
        speed = look.state.images_per_second
        if speed is None:
            return
        ages = [age(look.state.launched[i.instance_id]) for i in look.active]
        count = instances_to_end([look.state.demand.most_wanted(speed, now())], ages)
        if count:
            look.why.append(
                f"{some(count, 'instance', 'instances')} more than the load has called for lately"
            )
            self._terminate(look, [i.instance_id for i in look.active[:count]])

    def _gave_up(self, look: Look) -> str:
        """Why nobody will come for what waits, or nothing: whoever runs or boots may yet do the work."""
        state = look.state
        if look.active:
            return ""
        if state.launch_failures >= MAX_LAUNCH_FAILURES:
            return f"Workers cannot be launched: {state.launch_error}"
        if len(state.not_ready) >= MAX_NOT_READY:
            last = state.not_ready[-1]
            return f"Workers fail to start: {len(state.not_ready)} in a row never got ready. {CONSOLE} {last}"
        return ""

    def _answer_that_nobody_comes(self, look: Look, reason: str) -> None:
        found = [self.open_requests.get(request_id) for request_id in self.open_requests.ids()]
        answered = self.recovery.fail_all([request for request in found if request], reason)
        look.why.append(f"{some(answered, 'image', 'images')} answered failed: {reason}")
        look.state.launch_failures, look.state.not_ready = 0, []

    def _scale_in(self, look: Look) -> None:
        """Terminates the instances whose requests are answered, once the queue has been quiet twice."""
        open_ids = self.open_requests.ids()
        if not look.active and not open_ids:
            look.why.append("nothing waits and nothing runs")
            return
        Event().wait(self.quiet_again_seconds)
        waiting = self.waiting()
        if self.queue.counts().backlog or waiting.just_sent or waiting.submitted != look.waiting.submitted:
            look.why.append("the queue is not quiet after all")
            return
        still_open = self.recovery.settle(open_ids)
        look.why.append(f"the queue is quiet; {some(len(still_open), 'request waits', 'requests wait')}")
        left = [i.instance_id for i in look.active if i.request_id not in still_open]
        # SQS may not count yet what another process has just sent: those images keep whom they need.
        needed = wanted_instances(
            sum(still_open.values()), self.policy.max_images_per_instance, self.policy.max_instances
        )
        needless = left[max(0, needed - (len(look.active) - len(left))) :]
        if needless:
            done = some(len(needless), "instance was", "instances were")
            look.why.append(f"{done} launched for requests that are answered")
            self._terminate(look, needless)

    def _terminate(self, look: Look, instance_ids: list[str]) -> list[str]:
        """Returns those that EC2 let be terminated."""
        ended = self.fleet.terminate(instance_ids)
        metrics.TERMINATED.inc(len(ended))
        if len(ended) < len(instance_ids):
            look.why.append(f"EC2 lets only {len(ended)} of {len(instance_ids)} instances be terminated")
        look.terminated += ended
        for instance_id in ended:
            look.state.launched[instance_id].ending = True
        return ended

    def _note(self, look: Look) -> None:
        decision = Decision(
            at=now(),
            by=self.name,
            seen=look.seen._asdict(),
            wanted=look.wanted,
            launched=look.launched,
            terminated=look.terminated,
            why=look.why,
        )
        new = look.state.remember(decision)
        log.log(
            logging.INFO if new else logging.DEBUG,
            "look",
            extra={"decision": decision.model_dump(mode="json")},
        )

    def _sample(self, look: Look) -> None:
        states = [i.state for i in look.active]
        sample = Sample(
            at=now(),
            visible=look.seen.visible + look.seen.delayed,
            in_flight=look.seen.in_flight,
            pending=states.count("pending") + len(look.launched),
            running=states.count("running"),
            wanted=look.wanted,
        )
        if not sample.worth_keeping(look.state.sampled):
            return
        try:
            self.history.add(sample)
        except CloudError as error:
            log.warning("%s", error)
        else:
            look.state.sampled = sample
