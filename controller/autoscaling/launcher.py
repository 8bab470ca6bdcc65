"""Launches instances, and remembers in the fleet's state when a launch fails."""

import secrets
from datetime import timedelta

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet, NoCapacity
from controller.autoscaling.fleet_state import FleetState, Launched, Lease
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS
from controller.autoscaling.launch_errors import setting_to_blame

SLOWEST_LAUNCH_SECONDS = 60  # the longest pause between launches that fail
OUTAGE_MINUTES = 5  # an outage of EC2 may last so long before waiting images are answered `failed`


class LaunchFailed(Exception):
    """Nothing was launched. The message says why, and the fleet's state says when to try again."""


class Launcher:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def launch(self, count: int, request_id: str, lease: Lease) -> list[str]:
        """Launches up to `count` instances for a request. Returns their ids.

        Raises LaunchFailed when EC2 refuses, or when the lease would end before the launch, and
        CloudError when EC2 does not answer.
        """
        if not lease.may_launch():
            raise LaunchFailed("this run took too long to launch safely; the next one will launch")
        state = lease.state
        try:
            launched = self.fleet.launch(
                count, request_id, secrets.token_hex(16), lease.may_launch, state.walk
            )
        except NoCapacity as error:
            metrics.LAUNCH_ERRORS.inc()
            note_no_trouble(state)
            if not state.walk.next:  # all choices were tried; if not, the next run goes on with them
                state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
            state.no_capacity = str(error)
            raise LaunchFailed(f"no capacity: {error}") from error
        except CloudError as error:
            metrics.LAUNCH_ERRORS.inc()
            note_trouble(state, error)
            if not error.code:  # EC2 may have launched them all the same; they would show by then
                state.no_launch_before = now() + timedelta(seconds=LAUNCH_LAG_SECONDS)
                raise
            raise LaunchFailed(f"launch refused: {error}") from error
        metrics.LAUNCHED.inc(len(launched))
        note_no_trouble(state)
        for instance_id in launched:
            state.launched[instance_id] = Launched(at=now(), request_id=request_id)
        return launched


def note_no_trouble(state: FleetState) -> None:
    """Notes that EC2 answers launches as it should, with instances or with a lack of capacity."""
    state.launch_failures, state.failing_since, state.cannot_launch = 0, None, ""
    state.no_launch_before, state.no_capacity = None, ""


def note_trouble(state: FleetState, error: CloudError) -> None:
    """Notes a failed launch, when to try again, and whether images may still wait for it.

    An outage of EC2 passes, so the pauses double, and it is given up after OUTAGE_MINUTES. If a setting is
    wrong, waiting does not help.
    """
    at, slowest = now(), timedelta(seconds=SLOWEST_LAUNCH_SECONDS)
    if state.no_launch_before is None or at > state.no_launch_before + slowest:  # another outage
        state.launch_failures, state.failing_since = 0, None
    state.failing_since = state.failing_since or at
    state.launch_failures += 1
    state.launch_error, state.no_capacity, state.cannot_launch = str(error), "", ""
    pause = min(timedelta(seconds=2 ** min(state.launch_failures, 6)), slowest)
    if setting := setting_to_blame(error):
        state.cannot_launch = f"Workers cannot be launched. Check {setting}: {error}"
        pause = slowest
    elif at - state.failing_since >= timedelta(minutes=OUTAGE_MINUTES):
        state.cannot_launch = f"Workers could not be launched for {OUTAGE_MINUTES} minutes: {error}"
    state.no_launch_before = at + pause
