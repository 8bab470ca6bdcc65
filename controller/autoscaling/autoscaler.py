"""Observes the fleet, plans, and applies the plan, again and again. One process at a time does so.

What a run needs to know of earlier ones is in the fleet's state. If a process dies or AWS fails in the middle
of a run, the next run observes what has become of the fleet.
"""

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from threading import Event

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet, Instance
from controller.autoscaling.fleet_history import FleetHistory, Sample
from controller.autoscaling.fleet_state import Busy, Decision, FleetState, Lease, SharedState
from controller.autoscaling.launcher import Launcher, LaunchFailed
from controller.autoscaling.observer import Observed, Observer
from controller.autoscaling.planner import BUSY_SECONDS, Plan, Policy, plan
from controller.autoscaling.wording import some
from controller.image_requests.recovery import Recovery

log = logging.getLogger(__name__)

SPACING_SECONDS = 0.2  # the least pause between two runs: one run serves all that has happened meanwhile
PROCESSOR_SHARE = 0.04  # the most of a processor that the runs may take
BURST_SECONDS = 0.1  # of the processor, that runs may take at once when there were none for a while
DEAD_LETTERS_SECONDS = 10.0  # between two looks into the dead-letter queue while the request queue is busy
LEASE_WAIT_SECONDS = 5.0


@dataclass
class Run:
    """The record of one run: what was observed, planned and done."""

    observed: Observed
    plan: Plan
    launched: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[Instance]:
        """The observed instances that this run has not terminated."""
        return [i for i in self.observed.instances if i.instance_id not in self.terminated]


class Budget:
    """Limits the share of a processor that a thread uses."""

    def __init__(self, share: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`share` is from 0 to 1. At most `burst` seconds of the processor are saved up."""
        self.share, self.burst, self.clock = share, burst, clock
        self._left = burst
        self._at, self._used = clock(), 0.0

    def pause(self, used: float) -> float:
        """Returns the seconds that the thread must pause. It has used the processor for `used` so far."""
        now = self.clock()
        self._left = min(self.burst, self._left + (now - self._at) * self.share) - (used - self._used)
        self._at, self._used = now, used
        return max(0.0, -self._left / self.share)


class Autoscaler:
    def __init__(
        self,
        observer: Observer,
        policy: Policy,
        fleet: Fleet,
        shared: SharedState,
        history: FleetHistory,
        recovery: Recovery,
        wake: Event,
    ) -> None:
        self.observer, self.policy = observer, policy
        self.fleet, self.launcher = fleet, Launcher(fleet)
        self.shared, self.history = shared, history
        self.recovery = recovery
        self.wake = wake
        """Set to start the next run at once: a request was sent or answered, or the process ends."""
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._dead_letters_at = 0.0

    def run(self, stop: Event) -> None:
        """Runs when woken, and from time to time, until `stop` is set. Set `wake` too to end it at once."""
        budget = Budget(PROCESSOR_SHARE, BURST_SECONDS)
        while not stop.is_set():
            seconds = BUSY_SECONDS
            try:
                seconds = self.reconcile()
            except Busy:
                log.info("another process runs its autoscaler; this one tries again soon")
            except CloudError as error:
                log.warning("the autoscaler's run failed: %s", error)
            except Exception:
                log.exception("the autoscaler's run failed")
            stop.wait(max(SPACING_SECONDS, budget.pause(time.thread_time())))
            self.wake.wait(seconds)
            self.wake.clear()

    def reconcile(self) -> float:
        """Observes, plans and applies the plan once. Returns the seconds until the next run.

        Raises Busy while another process holds the lease, and CloudError when AWS fails.
        """
        with self.shared.hold(LEASE_WAIT_SECONDS) as lease:
            observed = self.observer.observe(lease.state)
            run = Run(observed, plan(observed.observation, self.policy))
            run.reasons += run.plan.reasons
            lease.state.demand.note_called_for(run.plan.called_for, observed.observation.now)
            try:
                self._apply(run, lease)
            finally:
                self._record(run, lease.state)
                self._sample(run, lease.state)
        return run.plan.next_run_in

    def _apply(self, run: Run, lease: Lease) -> None:
        self._answer_dead_letters(run)
        if run.plan.terminate:
            self._terminate(run, lease.state)
        if run.plan.fail:
            self._fail_what_waits(run, lease.state)
        if run.plan.launch:
            self._launch(run, lease)
        self.fleet.number(run.left, run.launched, lease.may_launch)

    def _answer_dead_letters(self, run: Run) -> None:
        """Answers dead letters now and then while requests wait, and always if nothing else may be left."""
        observation = run.observed.observation
        due = not observation.counts.in_queue or time.monotonic() > self._dead_letters_at
        if observation.requests and due:
            self._dead_letters_at = time.monotonic() + DEAD_LETTERS_SECONDS
            self.recovery.answer_dead_letters()

    def _terminate(self, run: Run, state: FleetState) -> None:
        planned = run.plan.terminate
        run.terminated = self.fleet.terminate(planned)
        metrics.TERMINATED.inc(len(run.terminated))
        if len(run.terminated) < len(planned):
            run.reasons.append(
                f"EC2 lets only {len(run.terminated)} of {len(planned)} instances be terminated"
            )
        for instance_id in planned:
            launched = state.launched[instance_id]
            launched.ending = instance_id in run.terminated
            launched.protected = not launched.ending
        state.not_ready += [i for i in run.plan.late if i in run.terminated]

    def _fail_what_waits(self, run: Run, state: FleetState) -> None:
        failed = self.recovery.fail_all(run.plan.fail)
        run.reasons.append(f"{some(failed, 'image', 'images')} answered failed: {run.plan.fail}")
        state.not_ready = []

    def _launch(self, run: Run, lease: Lease) -> None:
        request_id = next(iter(run.observed.waiting.requests), "")
        try:
            run.launched = self.launcher.launch(run.plan.launch, request_id, lease)
        except LaunchFailed as error:
            run.reasons.append(str(error))
        else:
            run.reasons += [f"the request that waits longest is {request_id}"] * bool(request_id)

    def _record(self, run: Run, state: FleetState) -> None:
        decision = Decision(
            at=now(),
            by=self.name,
            seen=asdict(run.observed.observation.counts),
            wanted=run.plan.wanted,
            launched=run.launched,
            terminated=run.terminated,
            why=run.reasons,
        )
        new = state.remember(decision)
        level = logging.INFO if new else logging.DEBUG
        log.log(level, "autoscaled", extra={"decision": decision.model_dump(mode="json")})

    def _sample(self, run: Run, state: FleetState) -> None:
        counts = run.observed.observation.counts
        ready = sum(state.launched[i.instance_id].ready for i in run.left)
        sample = Sample(
            at=now(),
            visible=counts.visible + counts.delayed,
            in_flight=counts.in_flight,
            starting=len(run.left) - ready + len(run.launched),
            ready=ready,
            wanted=run.plan.wanted,
        )
        if not sample.worth_keeping(state.sampled):
            return
        try:
            self.history.add(sample)
        except CloudError as error:
            log.warning("%s", error)
        else:
            state.sampled = sample
