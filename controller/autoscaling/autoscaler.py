"""Observes the fleet, plans, and applies the plan, again and again. One process at a time does so.

What a run needs to know of earlier ones is in the fleet's state. If a process dies or AWS fails in the middle
of a run, the next run observes what has become of the fleet.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet, Instance, Outcome
from controller.autoscaling.fleet_history import FleetHistory, Sample
from controller.autoscaling.fleet_state import Decision, FleetState, Launched
from controller.autoscaling.launcher import Launcher, LaunchFailed
from controller.autoscaling.observer import Observed, Observer
from controller.autoscaling.planner import BUSY_SECONDS, IDLE_SECONDS, Plan, Policy, plan
from controller.autoscaling.shared_state import Busy, Lease, SharedState
from controller.autoscaling.warm_pool import WarmPool
from controller.autoscaling.wording import some
from controller.image_requests.recovery import Recovery

log = logging.getLogger(__name__)

LONGEST_IDLE_SECONDS = 720.0  # between two looks at everything while the fleet is idle
MESSAGES_SECONDS = 240.0  # the longest time between two looks for messages that another host has left
SPACING_SECONDS = 0.2  # the least pause between two runs: one run serves all that has happened meanwhile
PROCESSOR_SHARE = 0.04  # the most of a processor that the runs may take
BURST_SECONDS = 0.1  # of the processor, that runs may take at once when there were none for a while
DEAD_LETTERS_SECONDS = 10.0  # between two looks into the dead-letter queue while the request queue is busy
SWEEP_AFTER = timedelta(seconds=60)  # between two looks for lost messages while the request queue is busy
LEASE_WAIT_SECONDS = 5.0
LAST_WAIT_SECONDS = 1.0  # for the lease, when the process ends
TOO_LATE = "this run took too long to act safely; the next one does"


@dataclass
class Run:
    """The record of one run: what was observed, planned and done."""

    observed: Observed
    plan: Plan
    launched: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def unserved_since(self) -> datetime | None:
        """When the longest waiting request of this process was sent, if there is no instance at all."""
        observed = self.observed
        there = observed.instances or observed.observation.unseen
        return None if there else observed.waiting.sent_at

    @property
    def left(self) -> list[Instance]:
        """The observed instances that this run has neither terminated nor stopped."""
        gone = {*self.terminated, *self.stopped}
        return [i for i in self.observed.instances if i.instance_id not in gone]


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
        warm_pool: int = 0,
    ) -> None:
        """`warm_pool` is the largest number of stopped instances."""
        self.observer, self.policy = observer, policy
        self.fleet, self.launcher = fleet, Launcher(fleet)
        self.pool = WarmPool(fleet, policy, warm_pool)
        self.shared, self.history = shared, history
        self.recovery = recovery
        self.wake = wake
        """Set to start the next run at once: a request was sent or answered, or the process ends."""
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._dead_letters_at = 0.0
        self._pause = 0.0
        """Seconds between the last run and the next one."""
        self._idle_for = 0.0
        """Seconds since the last look at everything, while the fleet is idle."""
        self._at_rest: Mapping[str, datetime] = {}
        """The stopped instances that the last run left, each with the time until which nothing is due."""
        self._sweep = Thread()
        """Looks for lost messages, which takes too long for a run."""

    def run(self, stop: Event) -> None:
        """Runs when woken, and from time to time, until `stop` is set. Set `wake` too to end it at once."""
        budget = Budget(PROCESSOR_SHARE, BURST_SECONDS)
        woken = True
        while not stop.is_set():
            seconds = BUSY_SECONDS
            try:
                seconds = self.reconcile() if woken else self.look()
            except Busy:
                log.info("another process runs its autoscaler; this one tries again soon")
            except CloudError as error:
                log.warning("the autoscaler's run failed: %s", error)
            except Exception:
                log.exception("the autoscaler's run failed")
            stop.wait(max(SPACING_SECONDS, budget.pause(time.thread_time())))
            woken = self.wake.wait(seconds)
            self.wake.clear()
        self._book_last_calls()

    def look(self) -> float:
        """Does what `reconcile` does, unless there is nothing to do or another process has just done it.

        An idle fleet is looked at ever more seldom, without a write. Messages are looked for more often,
        because a host may have died that had sent them. A process whose calls are worth booking runs
        nevertheless. Raises the same errors.
        """
        if self.shared.unbooked.worth_booking():
            return self.reconcile()
        if self._pause >= IDLE_SECONDS and self._sees_nothing():
            return min(self._pause, MESSAGES_SECONDS)
        if self._pause < IDLE_SECONDS and self.shared.ran_within(self._pause):
            return self._pause
        return self.reconcile()

    def _sees_nothing(self) -> bool:
        self._idle_for += min(self._pause, MESSAGES_SECONDS)
        if self._idle_for < self._pause:
            return self.observer.sees_no_messages()
        self._idle_for = 0.0
        self._pause = min(2 * self._pause, LONGEST_IDLE_SECONDS)
        at_rest = [instance_id for instance_id, until in self._at_rest.items() if now() < until]
        return self.observer.sees_nothing(at_rest)

    def reconcile(self) -> float:
        """Observes, plans and applies the plan once. Returns the seconds until the next run.

        Raises Busy while another process holds the lease, and CloudError when AWS fails.
        """
        self._pause, self._idle_for = 0.0, 0.0  # a run that fails leaves what only another run sees
        with self.shared.hold(LEASE_WAIT_SECONDS) as lease:
            self._try_new_settings(lease.state)
            observed = self.observer.observe(lease.state)
            run = Run(observed, plan(observed.observation, self.policy))
            run.reasons += run.plan.reasons
            lease.state.demand.note_called_for(run.plan.called_for, observed.observation.now)
            self._start_sweep(run, lease.state)
            try:
                self._apply(run, lease)
            finally:
                self._record(run, lease.state)
                self._sample(run, lease.state)
            if TOO_LATE not in run.reasons:
                lease.state.ran_at = now()
        if lease.saved:
            self.observer.ledger.delete_reports(lease.state)
        self._at_rest = self.pool.at_rest(observed.pool, lease.state)
        self._pause = run.plan.next_run_in
        return self._pause

    def _book_last_calls(self) -> None:
        """Adds the calls since the last run to the fleet's state, before the process ends."""
        try:
            with self.shared.hold(LAST_WAIT_SECONDS):
                pass
        except (Busy, CloudError) as error:
            reason = str(error) or "another process holds the lease"
            log.warning("the last calls of this process are not in the fleet's bill: %s", reason)

    def _try_new_settings(self, state: FleetState) -> None:
        """With other settings, launches may succeed that have failed before, and workers differ in speed."""
        state.use_settings(self.fleet.plan.fingerprint)
        if state.given_up and state.given_up.settings != self.fleet.plan.fingerprint:
            state.forget_failures()

    def _apply(self, run: Run, lease: Lease) -> None:
        """Does what was planned while the lease lasts. After that, another process may run."""
        self._answer_dead_letters(run)
        for planned, act in [
            (run.plan.terminate, self._terminate),
            (run.plan.fail, self._fail_what_waits),
            (run.plan.pause, self._pause_launches),
            (run.plan.launch, self._launch),
            (self.pool.needless(run.observed.pool, lease.state), self._reap),
        ]:
            if planned and not lease.may_act():
                run.reasons.append(TOO_LATE)
                return
            if planned:
                act(run, lease)
        known = [i for i in run.observed.instances if i.instance_id not in run.terminated]
        self.fleet.number([*known, *run.observed.pool], run.launched, lease.may_act)

    def _start_sweep(self, run: Run, state: FleetState) -> None:
        """Starts to look for lost messages if that is due. A quiet queue has it done by the observer."""
        at = now()
        due = state.swept_at is None or at - state.swept_at > SWEEP_AFTER
        if run.observed.observation.quiet or not due or self._sweep.is_alive():
            return
        state.swept_at = at
        self._sweep = Thread(target=self._sweep_once, name="sweep", daemon=True)
        self._sweep.start()

    def _sweep_once(self) -> None:
        try:
            self.recovery.sweep()
        except CloudError as error:
            log.warning("lost messages were not looked for: %s", error)
        except Exception:
            log.exception("lost messages were not looked for")

    def _answer_dead_letters(self, run: Run) -> None:
        """Answers dead letters now and then while requests wait, and always if nothing else may be left."""
        observation = run.observed.observation
        due = not observation.counts.in_queue or time.monotonic() > self._dead_letters_at
        if observation.requests and due:
            self._dead_letters_at = time.monotonic() + DEAD_LETTERS_SECONDS
            self.recovery.answer_dead_letters()

    def _reap(self, run: Run, lease: Lease) -> None:
        """Terminates the stopped instances that are not needed any more."""
        state, needless = lease.state, self.pool.needless(run.observed.pool, lease.state)
        number = some(len(needless), "stopped instance is", "stopped instances are")
        run.reasons.append(f"{number} too old, too many, or not what would be launched now")
        outcome = self._end(needless, run, lease)
        for instance_id in needless:
            state.stopped[instance_id].asked_to_terminate(outcome, instance_id)

    def _terminate(self, run: Run, lease: Lease) -> None:
        """Stops the planned instances, or terminates them."""
        state, planned = lease.state, run.plan.terminate
        run.stopped = self.pool.stop(planned, run.observed, lease, run.reasons)
        rest = [i for i in planned if i not in run.stopped]
        note_request_to_end([state.launched[i] for i in rest], lease)
        if rest and not lease.may_act():
            run.reasons.append(TOO_LATE)
            rest = []
        state.not_ready += [i for i in rest if i in run.plan.late and i not in state.not_ready]
        outcome = self._end(rest, run, lease) if rest else Outcome([], [])
        for instance_id in rest:
            launched = state.launched[instance_id]
            launched.ending, launched.stopping = instance_id in outcome.changed, False
            launched.perhaps_ending = instance_id not in outcome.refused
            launched.asked_to_terminate(outcome, instance_id)

    def _end(self, instance_ids: Sequence[str], run: Run, lease: Lease) -> Outcome:
        """Terminates the instances."""
        outcome = self.fleet.terminate(instance_ids, lease.may_act)
        terminated = len(outcome.changed)
        run.terminated += outcome.changed
        metrics.TERMINATED.inc(terminated)
        if terminated < len(instance_ids):
            run.reasons.append(f"EC2 lets only {terminated} of {len(instance_ids)} instances be terminated")
        return outcome

    def _fail_what_waits(self, run: Run, lease: Lease) -> None:
        failed = self.recovery.fail_all(run.plan.fail)
        run.reasons.append(f"{some(failed, 'image', 'images')} answered failed: {run.plan.fail}")
        planned_at = datetime.fromtimestamp(run.observed.observation.now, UTC)
        lease.state.give_up(run.plan.fail, self.fleet.plan.fingerprint, planned_at)

    def _pause_launches(self, run: Run, lease: Lease) -> None:
        planned_at = datetime.fromtimestamp(run.observed.observation.now, UTC)
        lease.state.give_up(run.plan.pause, self.fleet.plan.fingerprint, planned_at)

    def _launch(self, run: Run, lease: Lease) -> None:
        """Starts stopped instances, and launches the rest of what is planned."""
        request_id = next(iter(run.observed.waiting.requests), "")
        asks_for_spot = run.plan.spot and not self.fleet.plan.is_spot(None)
        if not asks_for_spot:  # stopped instances are on-demand ones
            run.started = self.pool.start(
                run.plan.launch, request_id, run.observed, lease, run.reasons, run.unserved_since
            )
        missing = run.plan.launch - len(run.started)
        try:
            if missing and lease.may_act():
                run.launched = self.launcher.launch(
                    missing, request_id, lease, run.unserved_since, run.plan.spot
                )
            elif missing:
                run.reasons.append(TOO_LATE)
        except LaunchFailed as error:
            run.reasons.append(str(error))
        if request_id and (run.started or run.launched):
            run.reasons.append(f"the request that waits longest is {request_id}")

    def _record(self, run: Run, state: FleetState) -> None:
        decision = Decision(
            at=now(),
            by=self.name,
            seen=asdict(run.observed.observation.counts),
            wanted=run.plan.wanted,
            launched=run.launched,
            started=run.started,
            terminated=run.terminated,
            stopped=run.stopped,
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
            starting=len(run.left) - ready + len(run.launched) + len(run.started),
            ready=ready,
            wanted=run.plan.wanted,
            sent=state.sent,
        )
        if not sample.worth_keeping(state.sampled):
            return
        try:
            self.history.add(sample)
        except CloudError as error:
            log.warning("%s", error)
        else:
            state.sampled, state.sent = sample, {}


def note_request_to_end(instances: Sequence[Launched], lease: Lease) -> None:
    """Notes that EC2 will be asked to terminate the instances.

    If this process dies, or gets no reply, the next run does not take those whose worker was not ready yet
    for failures.
    """
    for launched in instances:
        launched.perhaps_ending = True
    if not all(launched.ready for launched in instances):
        lease.save()
