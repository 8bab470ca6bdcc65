"""Keeps the requests up to date that have event streams in this process.

A request that this process polls anyway is shared with the polling thread. Any other request is read from S3.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Thread

from cloud.errors import CloudError
from controller.image_requests.polling import Polling
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5  # before the next read of S3, after one that found a change
SLOWEST_PAUSE_SECONDS = 5.0  # the longest pause between two reads
BACKOFF = 1.5  # the factor by which the pause grows after a read that found no change


class Shared:
    """What all streams of one request share."""

    def __init__(self) -> None:
        self.streams = 0
        self.lock = Lock()
        self.watched: WatchedRequest | None = None


class Follower:
    """Reads S3 once for all streams that a request has in this process."""

    def __init__(self, polling: Polling, stored: StoredRequests) -> None:
        self.polling, self.stored = polling, stored
        self._shared: dict[str, Shared] = {}
        self._lock = Lock()

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
            shared.streams += 1
        try:
            with shared.lock:
                if shared.watched is None:
                    shared.watched = self._begin(request_id)
            yield shared.watched
        finally:
            with self._lock:
                shared.streams -= 1
                if not shared.streams:
                    del self._shared[request_id]
                    if shared.watched:
                        shared.watched.end()

    def _begin(self, request_id: str) -> WatchedRequest | None:
        watched = self.stored.load(request_id)
        if watched and watched.unanswered:
            Thread(target=self._poll, args=[watched], name=f"follow-{request_id}", daemon=True).start()
        return watched

    def _poll(self, watched: WatchedRequest) -> None:
        pause = FIRST_PAUSE_SECONDS
        while watched.unanswered and not watched.finished.wait(pause):
            before = watched.predictions
            try:
                self.stored.refresh(watched)
            except CloudError as error:
                log.warning("%s", error, extra={"request_id": watched.request_id})
            except Exception:
                log.exception("a request could not be followed", extra={"request_id": watched.request_id})
            changed = watched.predictions is not before
            pause = FIRST_PAUSE_SECONDS if changed else min(pause * BACKOFF, SLOWEST_PAUSE_SECONDS)
