"""The warm pool: instances that are stopped instead of terminated, because a start is quicker than a launch.

A stopped instance costs only its disk. The planner decides how many instances come and which go; this module
decides which of those that go are stopped, and how many of those that come are started rather than launched.
What it decides from is what EC2 shows and what the fleet's state remembers, so a process may die at any time.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.boots import Call
from controller.autoscaling.ec2_fleet import Fleet, Instance
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.observer import Observed
from controller.autoscaling.planner import Policy, is_silent
from controller.autoscaling.shared_state import Lease
from controller.autoscaling.wording import some

log = logging.getLogger(__name__)

LONGEST_STOPPED = timedelta(days=1)
# Of a lease, so that the same run can launch what EC2 does not start, and terminate what it does not stop.
CHANGE_BEFORE_SECONDS = 4.0
PERHAPS_DONE = {"", "InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"}
"""The error codes with which EC2 may have carried out a call all the same; "" stands for no answer."""


class WarmPool:
    def __init__(self, fleet: Fleet, policy: Policy, size: int) -> None:
        """`size` is the largest number of stopped instances. With 0, all are terminated as without a pool."""
        self.fleet, self.policy, self.size = fleet, policy, size

    def needless(self, pool: Sequence[Instance], state: FleetState) -> tuple[str, ...]:
        """Returns the ids of the stopped instances that should be terminated.

        They were stopped for too long, are not what would be launched now, were not ready before, or are more
        than the pool may have. `pool` are the instances that are stopping or stopped.
        """
        kept, stopped = self._kept(pool, state), state.stopped
        ids = [i.instance_id for i in pool if i.instance_id in stopped]
        return tuple(i for i in ids if i not in kept and not stopped[i].protected_until)

    def at_rest(self, pool: Sequence[Instance], state: FleetState) -> Mapping[str, datetime]:
        """Returns the stopped instances about which there is nothing to do, each with the time until then."""
        needless = self.needless(pool, state)
        return {
            instance_id: stopped.protected_until or stopped.since + LONGEST_STOPPED
            for instance_id, stopped in state.stopped.items()
            if instance_id not in needless
        }

    def to_stop(self, going: Iterable[str], observed: Observed, state: FleetState) -> list[str]:
        """Returns which of the instances that are `going` should be stopped, and not terminated.

        Only an on-demand instance can be stopped, and only one whose worker reports is known to work. One
        that was told to stop already, and is still shown as running, keeps its place.
        """
        seen = {i.instance_id: i for i in observed.observation.instances}
        instances = {i.instance_id: i for i in observed.instances}
        fit = [
            i
            for i in going
            if seen[i].ready
            and not is_silent(seen[i], self.policy)
            and self._is_like_a_new_one(instances[i])
            and (state.launched[i].stopping or not state.launched[i].ending)
        ]
        fit.sort(key=lambda i: not state.launched[i].stopping)
        held = sum(i.state == "stopping" for i in observed.pool) + len(self._kept(observed.pool, state))
        return fit[: max(0, self.size - held)]

    def stop(self, going: Sequence[str], observed: Observed, lease: Lease, reasons: list[str]) -> list[str]:
        """Stops those of the instances that should be stopped. Returns the ids of those that EC2 stops.

        The others are to be terminated. If EC2 refuses, the reason is added to `reasons`.
        """
        state = lease.state
        planned = self.to_stop(going, observed, state)
        stopped: list[str] = []
        try:
            if planned:
                stopped = self.fleet.stop(planned, lambda: lease.may_act(CHANGE_BEFORE_SECONDS))
        except CloudError as error:
            log.warning("%s", error)
        if len(stopped) < len(planned):
            reasons.append(f"EC2 lets only {len(stopped)} of {len(planned)} instances be stopped")
        for instance_id in stopped:
            state.launched[instance_id].ending = state.launched[instance_id].stopping = True
        metrics.STOPPED.inc(len(stopped))
        return stopped

    def start(
        self,
        count: int,
        request_id: str,
        observed: Observed,
        lease: Lease,
        reasons: list[str],
        sent_at: datetime | None = None,
    ) -> list[str]:
        """Starts up to `count` stopped instances for a request. Returns their ids.

        `sent_at` is when the message was sent that waits for the first of them, if this is known. An instance
        that EC2 may have started without an answer is among them: the next runs see what became of it. If EC2
        refuses, the reason is added to `reasons`.
        """
        state = lease.state
        if state.unanswered:  # the launcher repeats that launch, whose instances may come already
            return []
        planned = self._kept(observed.pool, state)[:count]
        if not planned:
            return []
        called_at = now()
        try:
            started = self.fleet.start(planned, lambda: lease.may_act(CHANGE_BEFORE_SECONDS))
        except CloudError as error:
            log.warning("%s", error)
            started = planned if error.code in PERHAPS_DONE else []
        if len(started) < len(planned):
            number = some(len(planned), "stopped instance", "stopped instances")
            reasons.append(f"EC2 starts only {len(started)} of {number}")
        call = Call(sent_at=sent_at, called_at=called_at, answered_at=now())
        for instance_id in started:
            state.note_start(instance_id, request_id, call)
        metrics.STARTED.inc(len(started))
        return started

    def _kept(self, pool: Iterable[Instance], state: FleetState) -> list[str]:
        """Returns the ids of the stopped instances that may be started, the last stopped first."""
        usable = [i.instance_id for i in pool if self._is_usable(i, state)]
        usable.sort(key=lambda i: state.stopped[i].since, reverse=True)
        return usable[: self.size]

    def _is_usable(self, instance: Instance, state: FleetState) -> bool:
        """Returns whether the instance is stopped, and may be started in place of a launch."""
        stopped = state.stopped.get(instance.instance_id)
        if stopped is None or not stopped.usable or stopped.protected_until:
            return False
        return self._is_like_a_new_one(instance) and now() - stopped.since < LONGEST_STOPPED

    def _is_like_a_new_one(self, instance: Instance) -> bool:
        """Returns whether a launch would give the same: AMI, types and settings have not changed."""
        return instance.market == "on-demand" and instance.settings == self.fleet.plan.fingerprint
