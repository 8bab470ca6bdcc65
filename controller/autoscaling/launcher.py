"""Launches instances, and remembers in the fleet's state when a launch fails."""

import logging
from datetime import datetime, timedelta

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.boots import Call
from controller.autoscaling.ec2_fleet import Fleet, NoCapacity
from controller.autoscaling.fleet_state import FleetState, Launched, UnansweredLaunch
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS
from controller.autoscaling.launch_errors import DENIED, setting_to_blame
from controller.autoscaling.launch_walk import Walk
from controller.autoscaling.shared_state import Lease

log = logging.getLogger(__name__)

SLOWEST_LAUNCH_SECONDS = 60  # the longest pause between launches that fail
OUTAGE_MINUTES = 5  # an outage of EC2 may last so long before waiting images are answered `failed`

USED_TOKEN = "IdempotentParameterMismatch"  # noqa: S105 - an error code: a process that died has launched something else with it
ENDED_TOKEN = "IdempotentInstanceTerminated"  # noqa: S105


class LaunchFailed(Exception):
    """Nothing was launched. The message says why, and the fleet's state says when to try again."""


class Launcher:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def launch(
        self,
        count: int,
        request_id: str,
        lease: Lease,
        sent_at: datetime | None = None,
        spot: bool | None = None,
    ) -> list[str]:
        """Launches up to `count` instances for a request. Returns their ids.

        `sent_at` is when the message was sent that waits for the first of them, if this is known. `spot` is
        whether spot instances are asked for, or None to let MARKET decide. If EC2 may have carried out an
        earlier launch whose answer was lost, that launch is repeated instead.
        Raises LaunchFailed when EC2 refuses or does not answer.
        """
        state = lease.state
        asked = next_launch(state, count, request_id, spot)
        is_spot = self.fleet.plan.is_spot(asked.spot)
        walk = state.walk_of(is_spot)
        called_at = now()
        try:
            launched = self.fleet.launch(
                asked.count,
                asked.request_id,
                state.launch_token,
                lambda: may_go_on(lease),
                walk,
                asked.spot,
            )
        except CloudError as error:
            metrics.LAUNCH_ERRORS.inc()
            log.warning("%s", error)
            raise LaunchFailed(note_failure(state, asked, walk, error)) from error
        metrics.LAUNCHED.inc(len(launched))
        state.settle_launch()
        note_no_trouble(state)
        call = Call(sent_at=sent_at, called_at=called_at, answered_at=now())
        for instance_id in launched:
            new = Launched(
                at=call.answered_at,
                request_id=asked.request_id,
                call=call,
                choice=walk.next,
                spot=is_spot,
            )
            state.launched.setdefault(instance_id, new)
        return launched


def may_go_on(lease: Lease) -> bool:
    """Returns whether the next choice may be tried, and saves that it is.

    If this process dies after that launch, the next holder of the lease repeats it, and not an earlier one.
    """
    try:
        if lease.may_act():
            lease.save()
    except CloudError as error:
        log.warning("the next choice is left to the next run: %s", error)
        return False
    return lease.may_act()


def next_launch(state: FleetState, count: int, request_id: str, spot: bool | None) -> UnansweredLaunch:
    """Returns the launch whose answer was lost, or else a new one.

    After LAUNCH_LAG_SECONDS, DescribeInstances shows what it has launched, so it need not be repeated.
    """
    if state.unanswered and now() - state.unanswered.at <= timedelta(seconds=LAUNCH_LAG_SECONDS):
        return state.unanswered
    if state.unanswered:
        state.settle_launch()
    for walk in (state.walk, state.spot_walk):
        walk.end_if_late()
    return UnansweredLaunch(at=now(), count=count, request_id=request_id, spot=spot)


def note_failure(state: FleetState, asked: UnansweredLaunch, walk: Walk, error: CloudError) -> str:
    """Notes in the state what follows from a launch that failed. Returns the reason for any client."""
    if isinstance(error, NoCapacity):
        state.settle_launch()
        note_no_trouble(state)
        state.no_capacity = error.public
        if not walk.next:  # all choices were tried; if not, the next run goes on with them
            state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
        return f"no capacity: {error.public}"
    if error.code == USED_TOKEN:
        state.settle_launch()
        state.no_launch_before = now() + timedelta(seconds=LAUNCH_LAG_SECONDS)
        return f"an earlier launch may still have to show its instances: {error.public}"
    if error.code == ENDED_TOKEN:
        state.settle_launch()
        return f"the instances of an earlier launch have ended: {error.public}"
    note_trouble(state, error)
    if state.cannot_launch or error.code == DENIED:
        state.settle_launch()
    else:  # EC2 may have launched them all the same
        state.unanswered = asked.model_copy(update={"at": now()})
    return f"launch refused: {error.public}"


def note_no_trouble(state: FleetState) -> None:
    """Notes that EC2 answers launches as it should, with instances or with a lack of capacity."""
    state.launch_failures, state.failing_since, state.cannot_launch = 0, None, ""
    state.no_launch_before, state.no_capacity = None, ""


def note_trouble(state: FleetState, error: CloudError) -> None:
    """Notes a failed launch, when to try again, and whether images may still wait for it.

    An outage of EC2 passes, so the pauses double, and it is given up after OUTAGE_MINUTES. So is a missing
    permission, which may come. If a setting is wrong, waiting does not help.
    """
    at, slowest = now(), timedelta(seconds=SLOWEST_LAUNCH_SECONDS)
    if state.no_launch_before is None or at > state.no_launch_before + slowest:  # another outage
        state.launch_failures, state.failing_since = 0, None
    state.failing_since = state.failing_since or at
    state.launch_failures += 1
    state.launch_error, state.no_capacity, state.cannot_launch = error.public, "", ""
    pause = min(timedelta(seconds=2 ** min(state.launch_failures, 6)), slowest)
    is_long = at - state.failing_since >= timedelta(minutes=OUTAGE_MINUTES)
    setting = setting_to_blame(error)
    if setting and (is_long or error.code != DENIED):
        state.cannot_launch = f"Workers cannot be launched. Check {setting}: {error.public}."
        pause = slowest
    elif is_long:
        state.cannot_launch = f"Workers could not be launched for {OUTAGE_MINUTES} minutes: {error.public}."
    state.no_launch_before = at + pause
