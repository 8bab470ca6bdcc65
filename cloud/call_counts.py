"""Counts the calls that AWS charges, where they are made.

AWS charges every try of a call that reaches it, so retries count. Each process counts its own calls. The
worker writes its counts into its reports, and the controller adds all counts up in the fleet's state.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

from cloud.metrics import CHARGED_CALLS
from cloud.prices import CallKind, dollars_for, kind_of

T = TypeVar("T")

DID_NOT_REACH_AWS = (EndpointConnectionError, ConnectTimeoutError)
WORTH_BOOKING = 0.001  # dollars; a run of the autoscaler costs less than a fortieth of it
READ_AGAIN = 3


class CallCounts:
    """Counts the calls of this process by `CallKind`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def follow(self, events: Any) -> None:
        """Counts all further calls of a boto3 session or client, whose event emitter is `events`."""
        events.register("response-received", self._on_try)

    def add(self, kind: CallKind) -> None:
        with self._lock:
            self._counts[kind] += 1
        CHARGED_CALLS.labels(kind).inc()

    def so_far(self) -> Counter[str]:
        with self._lock:
            return self._counts.copy()

    def with_next_write(self) -> Counter[str]:
        """Returns the counts as they will be after one more PUT, which stores them."""
        return self.so_far() + Counter({CallKind.S3_PUT: 1})

    def _on_try(self, event_name: str, exception: Exception | None = None, **__: object) -> None:
        _, service, operation = event_name.split(".", 2)
        kind = kind_of(service, operation)
        if kind is not None and not isinstance(exception, DID_NOT_REACH_AWS):
            self.add(kind)


class UnbookedCalls:
    """The calls of this process that the fleet's state does not contain yet.

    The process that holds the lease adds its calls to the state, which it writes anyway. What a process has
    not added yet is lost when it is killed.
    """

    def __init__(self, counts: CallCounts) -> None:
        self.counts = counts
        self._booked: Counter[str] = Counter()
        self._bookings = 0
        """Changes when a booking begins and when it ends, so it is odd in between."""

    def since(self, booked: Counter[str]) -> Counter[str]:
        """Returns the calls of this process so far that are not among those that were booked."""
        return self.counts.so_far() - booked

    def worth_booking(self) -> bool:
        """Returns whether the calls cost so much that a process should add them although it has no work."""
        return dollars_for(self.since(self._booked)) >= WORTH_BOOKING

    @contextmanager
    def added_to(self, total: Counter[str]) -> Iterator[None]:
        """Adds the calls to `total`, which the block stores with one PUT. If it fails, they stay unbooked."""
        added = self.counts.with_next_write()
        total.update(added - self._booked)
        self._bookings += 1
        try:
            yield
            self._booked = added
        finally:
            self._bookings += 1

    def read_with_booked(self, read: Callable[[], T]) -> tuple[T, Counter[str]]:
        """Returns what `read` returns, and which calls of this process were booked at that moment.

        If some are booked just then, it reads again, because they would count twice or not at all.
        """
        for _ in range(READ_AGAIN):
            before = self._bookings
            found, booked = read(), self._booked
            if before == self._bookings and before % 2 == 0:
                break
        return found, booked


call_counts = CallCounts()
