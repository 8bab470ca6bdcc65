"""Launches instances, and remembers in the fleet's state when a launch fails."""

import secrets
from datetime import timedelta

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet, NoCapacity
from controller.autoscaling.fleet_state import Launched, Lease
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS

SLOWEST_LAUNCH_SECONDS = 60  # the longest pause between launches that EC2 refuses


class LaunchFailed(Exception):
    """Nothing was launched. The message says why, and the fleet's state says when to try again."""


class Launcher:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def launch(self, count: int, request_id: str, lease: Lease) -> list[str]:
        """Launches up to `count` instances for a request. Returns their ids.

        Raises LaunchFailed when EC2 refuses, and CloudError when EC2 does not answer.
        """
        state = lease.state
        try:
            launched = self.fleet.launch(count, request_id, secrets.token_hex(16), lease.may_act)
        except NoCapacity as error:
            metrics.LAUNCH_ERRORS.inc()
            state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
            state.no_capacity = str(error)
            raise LaunchFailed(f"no capacity: {error}") from error
        except CloudError as error:
            metrics.LAUNCH_ERRORS.inc()
            if not error.code:  # EC2 may have launched them all the same; they would show by then
                state.no_launch_before = now() + timedelta(seconds=LAUNCH_LAG_SECONDS)
                raise
            state.launch_failures += 1
            state.launch_error, state.no_capacity = str(error), ""
            seconds = min(2**state.launch_failures, SLOWEST_LAUNCH_SECONDS)
            state.no_launch_before = now() + timedelta(seconds=seconds)
            raise LaunchFailed(f"launch refused: {error}") from error
        metrics.LAUNCHED.inc(len(launched))
        state.launch_failures, state.no_launch_before, state.no_capacity = 0, None, ""
        for instance_id in launched:
            state.launched[instance_id] = Launched(at=now(), request_id=request_id)
        return launched
