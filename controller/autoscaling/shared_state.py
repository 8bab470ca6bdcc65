"""The state of the fleet that all controller processes share, and the lease under which one changes it.

Both are in one object in the state bucket, which is changed only by conditional writes (If-None-Match,
If-Match). A process that writes its name into the object while no other one holds the lease has taken the
lease. If the holder dies, its lease ends LEASE_SECONDS after its last write. That time is measured by S3's
own clock (Date - LastModified), so the clocks of the hosts do not matter.
"""

import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

from cloud.buckets import Bucket, JsonObjects, Stored
from cloud.call_counts import CallCounts, UnbookedCalls
from cloud.clock import now
from cloud.errors import Conflict
from controller.autoscaling.fleet_state import FleetState, new_token

log = logging.getLogger(__name__)

KEY = "fleet/state"
LEASE_SECONDS = 20
# A call of EC2 that starts this early in the lease ends within it: it takes up to 11 s (cloud/clients.py).
ACT_BEFORE_SECONDS = 8
TRY_AGAIN_SECONDS = 0.1  # the first pause while another process holds the lease; each is longer than the last
SLOWEST_TRY_SECONDS = 1.0


class Lease:
    """The right to change the fleet and its state. One process has it at a time."""

    def __init__(
        self, state: FleetState, clock: Callable[[], float], write: Callable[[FleetState, str], str]
    ) -> None:
        self.state, self.clock, self._write = state, clock, write
        self.taken_at = clock()
        self.etag = ""
        """The ETag of the state as it was last written."""
        self.saved = False
        """Whether the state was written at the end of the lease."""

    def save(self) -> None:
        """Writes the state. Raises Conflict when the lease has ended, and CloudError when S3 fails."""
        self.etag = self._write(self.state, self.etag)

    def may_act(self, before_seconds: float = ACT_BEFORE_SECONDS) -> bool:
        """Returns whether a call of EC2 that starts now ends before the lease does.

        With fewer `before_seconds`, there is still time for other calls after it.
        """
        return self.clock() - self.taken_at < before_seconds


class Busy(Exception):
    """Another process holds the lease."""


class SharedState:
    """Reads and writes the state. Each lease adds the unbooked calls of this process to it at its end."""

    def __init__(
        self,
        bucket: Bucket,
        clock: Callable[[], float] = time.monotonic,
        unbooked: UnbookedCalls | None = None,
    ) -> None:
        self.unbooked = unbooked or UnbookedCalls(CallCounts())
        self._states = JsonObjects(bucket, FleetState, in_place_of_broken=lambda key: FleetState())
        self.clock = clock

    def peek(self) -> FleetState:
        """Reads the state without the lease. It must not be changed."""
        return self._read()[0]

    def peek_with_booked(self) -> tuple[FleetState, Counter[str]]:
        """Does what `peek` does, and also returns which calls of this process the state contains."""
        return self.unbooked.read_with_booked(self.peek)

    def ran_within(self, seconds: float) -> bool:
        """Returns whether a process has done a whole run in these seconds, and none holds the lease now."""
        state = self.peek()
        ran = state.ran_at is not None and abs(now() - state.ran_at) < timedelta(seconds=seconds)
        return ran and state.holder is None

    @contextmanager
    def hold(self, wait_seconds: float) -> Iterator[Lease]:
        """Takes the lease for the block, and writes at its end what the block has changed in `lease.state`.

        Raises Busy when the lease cannot be had within `wait_seconds`, and CloudError when S3 fails.
        """
        holder = secrets.token_hex(8)
        lease = self._take(holder, time.monotonic() + wait_seconds)
        try:
            yield lease
        finally:
            lease.state.holder = None
            try:
                with self.unbooked.added_to(lease.state.calls):
                    lease.save()
                lease.saved = True
            except Conflict:
                log.warning(
                    "a run of the autoscaler took longer than its lease; its notes are lost, and the next run"
                    " observes the fleet again"
                )

    def _take(self, holder: str, until: float) -> Lease:
        pause = TRY_AGAIN_SECONDS
        while True:
            state, etag, age = self._read()
            if state.holder in (None, holder) or age > timedelta(seconds=LEASE_SECONDS):
                lease = Lease(state, self.clock, self._write)  # its time begins before the write
                lease.etag = etag
                try:
                    state.holder = holder
                    state.launch_token = state.launch_token or new_token()
                    lease.save()
                    return lease
                except Conflict:
                    pass
            if time.monotonic() > until:
                raise Busy
            Event().wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come at once
            pause = min(1.5 * pause, SLOWEST_TRY_SECONDS)

    def _read(self) -> tuple[FleetState, str, timedelta]:
        """Returns the state, its ETag ("" if there is none yet), and the time since it was written."""
        stored = self._states.read(KEY) or Stored(FleetState(), "", timedelta())
        return stored.value, stored.etag, stored.age

    def _write(self, state: FleetState, etag: str) -> str:
        """Writes the state if the one with this ETag, or none if it is "", is still there."""
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        return self._states.write(KEY, state, **condition)
