"""Sends the messages of requests that come at the same time together, ten in each call of SQS."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition

from cloud.request_queue import MAX_BATCH, RequestQueue, batches

LINGER_SECONDS = 0.02  # how long messages wait for those of requests that are being uploaded


@dataclass(eq=False)
class Parcel:
    """The messages of one request that do not fill a call."""

    bodies: Sequence[str]
    sent: bool = False
    error: Exception | None = None


class Outbox:
    """A lone request never waits for others. Threads share the outbox."""

    def __init__(self, queue: RequestQueue, pool: Executor) -> None:
        self.queue, self.pool = queue, pool
        self._changed = Condition()
        self._parcels: list[Parcel] = []
        self._uploading = 0
        self._sending = False

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Must enclose the upload of a request and the sending of its messages."""
        with self._changed:
            self._uploading += 1
        try:
            yield
        finally:
            with self._changed:
                self._uploading -= 1
                self._changed.notify_all()

    def send(self, bodies: Sequence[str]) -> None:
        """Sends a message for each body. Returns when all are sent.

        Raises CloudError when SQS fails, even if some messages were sent.
        """
        whole = len(bodies) - len(bodies) % MAX_BATCH
        list(self.pool.map(self.queue.send, batches(bodies[:whole])))
        if bodies[whole:]:
            self._send_with_others(Parcel(bodies[whole:]))

    def _send_with_others(self, parcel: Parcel) -> None:
        """The thread of the first parcel sends it, together with those behind it that fit into the call."""
        with self._changed:
            self._parcels.append(parcel)
            self._changed.notify_all()
            self._changed.wait_for(lambda: parcel.sent or self._is_next(parcel))
            if not parcel.sent:
                self._sending = True
                self._changed.wait_for(self._is_enough, LINGER_SECONDS)
        if not parcel.sent:
            self._send(self._take())
        if parcel.error:
            raise parcel.error

    def _is_next(self, parcel: Parcel) -> bool:
        return not self._sending and self._parcels[0] is parcel

    def _is_enough(self) -> bool:
        """Whether the messages fill a call, or no other request is being uploaded."""
        return sum(len(p.bodies) for p in self._parcels) >= MAX_BATCH or self._uploading <= len(self._parcels)

    def _take(self) -> list[Parcel]:
        with self._changed:
            taken = [self._parcels.pop(0)]
            room = MAX_BATCH - len(taken[0].bodies)
            while self._parcels and len(self._parcels[0].bodies) <= room:
                taken.append(self._parcels.pop(0))
                room -= len(taken[-1].bodies)
            return taken

    def _send(self, parcels: Sequence[Parcel]) -> None:
        error: Exception | None = None
        try:
            self.queue.send(body for parcel in parcels for body in parcel.bodies)
        except Exception as failure:
            error = failure
        with self._changed:
            for parcel in parcels:
                parcel.sent, parcel.error = True, error
            self._sending = False
            self._changed.notify_all()
