"""Launches what the backlog calls for, and knows when to try no longer."""

import secrets
from datetime import timedelta

from cloud.clock import now
from cloud.errors import CloudError
from controller.autoscaling import metrics
from controller.autoscaling.ec2_fleet import Fleet, NoCapacity
from controller.autoscaling.fleet_state import Launched, Lease
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS, InstanceLedger
from controller.autoscaling.observation import Look, Policy
from controller.autoscaling.scaling import instances_to_launch
from controller.autoscaling.wording import some
from controller.image_requests.open_requests import OpenRequests

SLOWEST_LAUNCH_SECONDS = 60  # between launches that EC2 refuses
MAX_LAUNCH_FAILURES = 3
MAX_NOT_READY = 3
CONSOLE = "The last one's console output says why: aws ec2 get-console-output --latest --instance-id"


class Launcher:
    def __init__(
        self, fleet: Fleet, ledger: InstanceLedger, open_requests: OpenRequests, policy: Policy
    ) -> None:
        self.fleet, self.ledger = fleet, ledger
        self.open_requests, self.policy = open_requests, policy

    def scale_out(self, look: Look, lease: Lease) -> None:
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


def why_nobody_comes(look: Look) -> str:
    """Or nothing: whoever runs or boots may yet do what waits."""
    state = look.state
    if look.active:
        return ""
    if state.launch_failures >= MAX_LAUNCH_FAILURES:
        return f"Workers cannot be launched: {state.launch_error}"
    if len(state.not_ready) >= MAX_NOT_READY:
        last = state.not_ready[-1]
        return f"Workers fail to start: {len(state.not_ready)} in a row never got ready. {CONSOLE} {last}"
    return ""
