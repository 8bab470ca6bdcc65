"""The outlook for requests that wait, from the fleet's shared state."""

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic

from cloud.errors import CloudError
from controller.fleet_state import FleetState, SharedState
from controller.ledger import age, since
from controller.look import Policy
from controller.outlook import Facts, Wait, outlook

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # looks come every 2 s while something waits


class Forecast:
    """One read of the state a second serves every request and stream of the process."""

    def __init__(self, shared: SharedState, policy: Policy, clock: Callable[[], float] = monotonic) -> None:
        self.shared, self.policy, self.clock = shared, policy, clock
        self._lock = Lock()
        self._read_again_at = 0.0
        self._state: FleetState | None = None

    def wait(self, waiting: int) -> Wait:
        """Of a request with so many unanswered images."""
        state = self._latest()
        if state is None:
            return Wait(state="queued", message="In the queue. How the fleet is cannot be read right now.")
        return outlook(waiting, facts(state, self.policy))

    def _latest(self) -> FleetState | None:
        """None when S3 does not say. While one thread reads, the others take what there was."""
        if self.clock() >= self._read_again_at and self._lock.acquire(blocking=self._state is None):
            try:
                if self.clock() >= self._read_again_at:
                    self._read()
            finally:
                self._lock.release()
        return self._state

    def _read(self) -> None:
        try:
            self._state = self.shared.peek()
        except CloudError as error:
            log.warning("%s", error)
            self._state = None
        self._read_again_at = self.clock() + FRESH_SECONDS


def facts(state: FleetState, policy: Policy) -> Facts:
    staying = [launched for launched in state.launched.values() if not launched.ending]
    seen = state.decisions[-1].seen if state.decisions else {}
    return Facts(
        queued=max(
            sum(seen.get(name, 0) for name in ("visible", "in_flight", "delayed")), seen.get("just_sent", 0)
        ),
        ready=sum(launched.ready for launched in staying),
        boot_ages=[age(launched) for launched in staying if not launched.ready],
        max_instances=policy.max_instances,
        max_images_per_instance=policy.max_images_per_instance,
        boot_seconds=state.boot_seconds,
        images_per_second=state.first_images_per_second,
        next_try=None if state.no_launch_before is None else max(0.0, -since(state.no_launch_before)),
        no_capacity=state.no_capacity,
        launch_error=state.launch_error if state.launch_failures else "",
        not_ready=len(state.not_ready),
    )
