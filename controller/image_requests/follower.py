"""The requests that have streams: as this process watches them, or from S3 where another one does."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Thread

from cloud.errors import CloudError
from controller.image_requests.polling import Polling
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5  # between two looks at S3, after one that found something
SLOWEST_PAUSE_SECONDS = 5.0
BACKOFF = 1.5


class Shared:
    """What the streams of one request have in common."""

    def __init__(self) -> None:
        self.streams = 0
        self.lock = Lock()
        self.watched: WatchedRequest | None = None


class Follower:
    """However many streams a request has here, S3 is asked once for all of them."""

    def __init__(self, polling: Polling, stored: StoredRequests) -> None:
        self.polling, self.stored = polling, stored
        self._shared: dict[str, Shared] = {}
        self._lock = Lock()

    @contextmanager
    def follow(self, request_id: str) -> Iterator[WatchedRequest | None]:
        """The request, kept up to date inside the block. None when it is unknown. CloudError."""
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
