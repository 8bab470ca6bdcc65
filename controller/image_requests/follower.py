"""Follows the requests that somebody waits for in this process: a client, or an event stream.

A request that this process polls anyway is shared with the polling thread. Any other request is read from S3,
by one thread for all who wait for it.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Lock, Thread

from cloud.errors import CloudError
from controller.image_requests.polling import Polling, poll_pause
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)

CHANGING_PAUSE_SECONDS = 0.5  # the longest pause between two reads of a request that has just changed
SLOWEST_PAUSE_SECONDS = 5.0  # the longest pause otherwise


class Shared:
    """What all who wait for one request share."""

    def __init__(self) -> None:
        self.waiting = 0
        self.lock = Lock()
        self.watched: WatchedRequest | None = None


class Follower:
    """Reads S3 once for all who wait for a request in this process."""

    def __init__(self, polling: Polling, stored: StoredRequests) -> None:
        self.polling, self.stored = polling, stored
        self._shared: dict[str, Shared] = {}
        self._lock = Lock()

    def wait(
        self,
        request_id: str,
        seconds: float,
        reading: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Waits until the request is complete, for at most `seconds`. Raises CloudError as `follow` does.

        What `reading` returns for the request-id encloses what may read the request from S3.
        """
        until = time.monotonic() + seconds
        if not self.polling.watched(request_id):
            self.polling.wake_autoscaler()  # the process that has sent its images may have died
        if seconds <= 0:
            return
        with ExitStack() as held:
            with reading(request_id):
                followed = held.enter_context(self.follow(request_id))
            if followed:
                followed.finished.wait(max(0.0, until - time.monotonic()))
        # If this process has begun to poll the request meanwhile, Polling.read returns what the polling
        # thread knows, which may be less than what S3 has.
        if polled := self.polling.watched(request_id):
            polled.finished.wait(max(0.0, until - time.monotonic()))

    @contextmanager
    def follow(self, request_id: str) -> Iterator[WatchedRequest | None]:
        """Yields the request and keeps it up to date inside the block, or yields None when it is unknown.

        Raises CloudError when S3 cannot be read.
        """
        if watched := self.polling.watched(request_id):
            yield watched
            return
        with self._lock:
            shared = self._shared.setdefault(request_id, Shared())
            shared.waiting += 1
        try:
            with shared.lock:
                if shared.watched is None or shared.watched.finished.is_set():
                    shared.watched = self._begin(request_id)
            yield shared.watched
        finally:
            with self._lock:
                shared.waiting -= 1
                if not shared.waiting:
                    del self._shared[request_id]
                    if shared.watched:
                        shared.watched.end()

    def let_go(self) -> None:
        """Lets all who wait go, because the process is about to end."""
        with self._lock:
            followed = [shared.watched for shared in self._shared.values() if shared.watched]
        for one in followed:
            one.end()
        self.polling.let_go()

    def _begin(self, request_id: str) -> WatchedRequest | None:
        watched = self.stored.load(request_id)
        if watched and not watched.unanswered:
            watched.end()
        elif watched:
            try:
                Thread(target=self._poll, args=[watched], name=f"follow-{request_id}", daemon=True).start()
            except RuntimeError as error:  # there are too many threads
                log.error("%s", error, extra={"request_id": request_id})
                watched.end()
        return watched

    def _poll(self, watched: WatchedRequest) -> None:
        changed_after = 0.0  # seconds
        while watched.waits:
            pause = max(
                poll_pause(watched.seconds, CHANGING_PAUSE_SECONDS),
                poll_pause(watched.seconds - changed_after, SLOWEST_PAUSE_SECONDS),
            )
            if watched.finished.wait(pause):
                return
            before = watched.predictions
            try:
                self.stored.refresh(watched)
                self.stored.note_deletion(watched)
            except CloudError as error:
                log.warning("%s", error, extra={"request_id": watched.request_id})
            except Exception:
                log.exception("a request could not be followed", extra={"request_id": watched.request_id})
            if watched.predictions is not before:
                changed_after = watched.seconds
        watched.end()
