"""What the controllers' processes share about the fleet, and the lease that makes them one writer.

Both are one object in the state bucket, changed by conditional writes (If-None-Match, If-Match), so
no further service is needed. Whoever writes its name into it while nobody else's is fresh holds the
lease. A holder that dies is not missed: by S3's own clock (Date - LastModified) its lease is over
after LEASE_SECONDS, whatever the clocks of the hosts say.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event
from typing import Any

from pydantic import BaseModel, Field

from cloud.buckets import Bucket, JsonObjects, Stored
from cloud.errors import Conflict
from controller.autoscaling.demand import Demand
from controller.autoscaling.fleet_history import Sample

log = logging.getLogger(__name__)

KEY = "fleet/state"
LEASE_SECONDS = 20
LAUNCH_BEFORE_SECONDS = (
    8  # a launch that starts so early in the lease ends within it (cloud/clients.py: 11 s)
)
TRY_AGAIN_SECONDS = 0.1
DECISIONS_KEPT = 100
IMAGES_TO_LEARN_FROM = 100
NEW_BOOT_SHARE = 0.3


class Decision(BaseModel):
    """One look: what was seen, what was wanted, what was done, and why."""

    at: datetime
    by: str
    """The process that looked: <host>/<process id>."""
    seen: dict[str, int]
    wanted: int
    launched: list[str] = []
    terminated: list[str] = []
    why: list[str] = []

    def repeats(self, other: "Decision") -> bool:
        ignored = {"at", "by"}
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


class Launched(BaseModel):
    at: datetime
    request_id: str
    ending: bool = False
    """Whether a controller has terminated it."""
    ready: bool = False
    """Whether its worker has reported."""


class FleetState(BaseModel):
    holder: str | None = None
    launched: dict[str, Launched] = {}
    """The instances that were launched and not yet seen to end, by instance id."""
    not_ready: list[str] = []
    """Ids of the last instances that ended without ever being ready, since one was."""
    launch_failures: int = 0
    """Launches in a row that EC2 refused, for another reason than capacity."""
    launch_error: str = ""
    no_capacity: str = ""
    """Why EC2 had no instances to give, when that was the last answer to a launch."""
    no_launch_before: datetime | None = None
    boot_seconds: float | None = None
    """From launch to a worker that is ready, lately; None until one was."""
    ended_seconds: float = 0
    """Instance-seconds of the instances that have ended, as EC2 bills them."""
    ended_images: int = 0
    """Images that they answered."""
    ended_busy_seconds: float = 0
    """Seconds in which they had images in hand."""
    demand: Demand = Field(default_factory=Demand)
    decisions: list[Decision] = []
    sampled: Sample | None = None
    """The last one that went into the history."""

    @property
    def seen(self) -> dict[str, int]:
        """What the last look saw, by the names of `Seen`; nothing before the first one."""
        return self.decisions[-1].seen if self.decisions else {}

    @property
    def images_per_second(self) -> float | None:
        """Of one worker, learned from those that have ended; None until enough is known to act on."""
        return self.first_images_per_second if self.ended_images >= IMAGES_TO_LEARN_FROM else None

    @property
    def first_images_per_second(self) -> float | None:
        """The same as soon as anything is known: enough to tell people about how long it takes."""
        return self.ended_images / self.ended_busy_seconds if self.ended_busy_seconds > 0 else None

    def note_boot(self, seconds: float) -> None:
        """The last boots count most."""
        known = self.boot_seconds
        self.boot_seconds = seconds if known is None else known + NEW_BOOT_SHARE * (seconds - known)

    def remember(self, decision: Decision) -> bool:
        """Keeps the last ones. False for a look that saw and did the same as the one before."""
        if self.decisions and decision.repeats(self.decisions[-1]):
            return False
        self.decisions = [*self.decisions, decision][-DECISIONS_KEPT:]
        return True


class Lease:
    """Held by one process at a time."""

    def __init__(self, state: FleetState, clock: Callable[[], float]) -> None:
        self.state, self.clock = state, clock
        self.taken_at = clock()

    def may_launch(self) -> bool:
        """Whether a launch that starts now ends before the lease does."""
        return self.clock() - self.taken_at < LAUNCH_BEFORE_SECONDS


class Busy(Exception):
    """Another process holds the lease."""


class SharedState:
    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.monotonic) -> None:
        self._states = JsonObjects(bucket, FleetState, in_place_of_broken=lambda key: FleetState())
        self.clock = clock

    def peek(self) -> FleetState:
        """Without the lease: to look, not to write."""
        return self._read()[0]

    @contextmanager
    def hold(self, wait_seconds: float) -> Iterator[Lease]:
        """What the block changes in the lease's state is written at its end. Busy when it's not to be had."""
        holder = secrets.token_hex(8)
        lease, etag = self._take(holder, time.monotonic() + wait_seconds)
        try:
            yield lease
        finally:
            lease.state.holder = None
            try:
                self._write(lease.state, IfMatch=etag)
            except Conflict:
                log.warning(
                    "a look took longer than its lease: what it noted is lost, the next one looks again"
                )

    def _take(self, holder: str, until: float) -> tuple[Lease, str]:
        while True:
            state, etag, age = self._read()
            if state.holder in (None, holder) or age > timedelta(seconds=LEASE_SECONDS):
                lease = Lease(state, self.clock)  # from before the write
                condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
                try:
                    state.holder = holder
                    return lease, self._write(state, **condition)
                except Conflict:
                    pass
            if time.monotonic() > until:
                raise Busy
            Event().wait(TRY_AGAIN_SECONDS)

    def _read(self) -> tuple[FleetState, str, timedelta]:
        """The state, its ETag ("" when there is none yet), and how long ago it was written."""
        stored = self._states.read(KEY) or Stored(FleetState(), "", timedelta())
        return stored.value, stored.etag, stored.age

    def _write(self, state: FleetState, **condition: Any) -> str:
        return self._states.write(KEY, state, **condition)
