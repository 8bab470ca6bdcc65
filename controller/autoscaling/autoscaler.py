"""look → decide → act, by one process at a time; the world is the memory.

A look reads the queue's counts, the instance list and the open requests, decides with scaling.py,
acts, and notes why. Whatever dies or fails in between costs one look: the next one sees the world as
it then is.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from threading import Event

from cloud.clock import now
from cloud.errors import CloudError
from cloud.request_queue import RequestQueue
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet
from controller.autoscaling.fleet_history import FleetHistory, Sample
from controller.autoscaling.fleet_state import Busy, Decision, FleetState, SharedState
from controller.autoscaling.instance_ledger import InstanceLedger, age
from controller.autoscaling.launcher import Launcher, why_nobody_comes
from controller.autoscaling.observation import Look, Policy
from controller.autoscaling.scaling import Seen, instances_to_end, wanted_instances
from controller.autoscaling.wording import some
from controller.image_requests.open_requests import OpenRequests
from controller.image_requests.recovery import Recovery
from controller.image_requests.waiting import Waiting

log = logging.getLogger(__name__)

QUIET_AGAIN_SECONDS = 0.25  # the counts are approximate, so quiet is believed when seen twice, this far apart
SPACING_SECONDS = 0.2  # what wakes it meanwhile is served by one look
BUSY_SECONDS = 2.0  # between looks while something waits or runs
REAPER_SECONDS = 30.0  # between looks otherwise
DEAD_LETTERS_SECONDS = 10.0
LEASE_WAIT_SECONDS = 5.0


class Autoscaler:
    def __init__(
        self,
        queue: RequestQueue,
        fleet: Fleet,
        shared: SharedState,
        history: FleetHistory,
        ledger: InstanceLedger,
        open_requests: OpenRequests,
        recovery: Recovery,
        policy: Policy,
        waiting: Callable[[], Waiting],
        quiet_again_seconds: float = QUIET_AGAIN_SECONDS,
    ) -> None:
        self.queue, self.fleet, self.shared = queue, fleet, shared
        self.history, self.ledger = history, ledger
        self.open_requests, self.recovery, self.policy = open_requests, recovery, policy
        self.launching = Launcher(fleet, ledger, open_requests, policy)
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
                elif reason := why_nobody_comes(look):
                    self._answer_that_nobody_comes(look, reason)
                else:
                    self.launching.scale_out(look, lease)
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
            look.why.append("new work has come, so that nothing is terminated")
            return
        still_open = self.recovery.settle(open_ids)
        look.why.append("the queue is empty, and nothing is in flight")
        if still_open:
            look.why.append(f"{some(len(still_open), 'request waits', 'requests wait')} all the same")
        left = [i.instance_id for i in look.active if i.request_id not in still_open]
        # SQS may not count yet what another process has just sent: those images keep whom they need.
        needed = wanted_instances(
            sum(still_open.values()), self.policy.max_images_per_instance, self.policy.max_instances
        )
        needless = left[max(0, needed - (len(look.active) - len(left))) :]
        if needless:
            done = some(len(needless), "instance has", "instances have")
            look.why.append(f"{done} nothing left to do")
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
        ready = sum(look.state.launched[i.instance_id].ready for i in look.active)
        sample = Sample(
            at=now(),
            visible=look.seen.visible + look.seen.delayed,
            in_flight=look.seen.in_flight,
            starting=len(look.active) - ready + len(look.launched),
            ready=ready,
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
