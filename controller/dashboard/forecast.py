"""Estimates how long requests will wait, from the shared state of the fleet."""

from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.instance_ledger import age, since
from controller.autoscaling.planner import Policy
from controller.dashboard.latest_state import LatestState
from controller.dashboard.wait_estimate import Facts, Wait, outlook


class Forecast:
    def __init__(self, latest: LatestState, policy: Policy) -> None:
        self.latest, self.policy = latest, policy

    def wait(self, waiting: int) -> Wait:
        """Returns the outlook for a request with `waiting` unanswered images."""
        state = self.latest.get()
        if state is None:
            return Wait(state="queued", message="In the queue. How the fleet is cannot be read right now.")
        return outlook(waiting, facts(state, self.policy))

    def instances(self) -> int | None:
        """Returns how many instances run or start, or None when that cannot be read right now."""
        state = self.latest.get()
        return None if state is None else state.seen.get("pending", 0) + state.seen.get("running", 0)


def facts(state: FleetState, policy: Policy) -> Facts:
    staying = [launched for launched in state.launched.values() if not launched.ending]
    seen = state.seen
    return Facts(
        queued=max(
            sum(seen.get(name, 0) for name in ("visible", "in_flight", "delayed")), seen.get("just_sent", 0)
        ),
        ready=sum(launched.ready for launched in staying),
        boot_ages=[age(one) for one in staying if not one.ready and not one.started],
        start_ages=[age(one) for one in staying if not one.ready and one.started],
        start_seconds=state.start_seconds,
        max_instances=policy.max_instances,
        max_images_per_instance=policy.max_images_per_instance,
        boot_seconds=state.boot_seconds,
        images_per_second=state.first_images_per_second,
        next_try=None if state.no_launch_before is None else max(0.0, -since(state.no_launch_before)),
        no_capacity=state.no_capacity,
        launch_error=state.launch_error if state.launch_failures else "",
        not_ready=len(state.not_ready),
    )
