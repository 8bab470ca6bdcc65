"""Polls the output bucket until every image of a request has a prediction, with one thread per request."""

import logging
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Lock, Thread
from types import MappingProxyType

from cloud.errors import CloudError
from cloud.image_id import ImageId, shard_of
from cloud.prediction import Prediction
from controller.image_requests.deduplication import Deduplication
from controller.image_requests.journal import Journal
from controller.image_requests.metrics import ANSWER_SECONDS, IMAGES
from controller.image_requests.notices import Notices, notice_of
from controller.image_requests.prediction_listing import PredictionListing
from controller.image_requests.results import RequestResult
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.waiting import Waiting
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)

# Between two polls of a request that is not in the listing of all:
FIRST_POLL_SECONDS = 0.03  # the shortest pause
SLOWEST_POLL_SECONDS = 1.0  # the longest pause
POLL_SHARE = 0.1  # the pause as a share of the time waited so far, which limits the delay due to polling
LOOK_SECONDS = 5.0  # how often a polling thread looks whether its request has timed out
AGAIN_SECONDS = 1.0  # the pause after predictions could not be read
LAG_SECONDS = 60  # SQS's counts are approximate, and may lag behind by this long


class Polling:
    def __init__(
        self,
        stored: StoredRequests,
        journal: Journal,
        deduplication: Deduplication,
        notices: Notices,
        request_timeout: float,
        wake_autoscaler: Callable[[], None],
    ) -> None:
        self.stored, self.journal, self.deduplication = stored, journal, deduplication
        self.notices, self.request_timeout = notices, request_timeout
        self.wake_autoscaler = wake_autoscaler
        """Called when images were sent, and when no request waits any more."""
        self.listing = PredictionListing(stored.outputs, journal.shard)
        self._watched: dict[str, WatchedRequest] = {}
        self._submitted = self._images = 0
        self._lock = Lock()

    def watch(self, watched: WatchedRequest) -> None:
        """Starts to poll a request whose messages have been sent, until every image has a prediction."""
        if not watched.unanswered:
            watched.end()
            if not (self.notices.on and self._start(self._end, watched)):
                self._end(watched)
            return
        with self._lock:
            self._watched[watched.request_id] = watched
            self._submitted += 1
            self._images += len(watched.in_queue)
        self.wake_autoscaler()
        if not self._start(self._watch, watched):  # clients still get the predictions from S3
            self._forget(watched)
            self._end(watched)

    def read(self, request_id: str) -> RequestResult | None:
        """Returns the result as the polling thread knows it, or else as S3 has it.

        Returns None when the request is unknown. Raises CloudError when S3 cannot be read.
        """
        found = self.watched(request_id) or self.stored.load(request_id)
        return found.result() if found else None

    def watched(self, request_id: str) -> WatchedRequest | None:
        """Returns the request if this process polls it, else None."""
        with self._lock:
            return self._watched.get(request_id)

    def refresh(self, request_id: str) -> bool:
        """Reads new predictions at once if this process polls the request. Returns whether it does.

        Raises CloudError when S3 cannot be read.
        """
        watched = self.watched(request_id)
        if watched:
            self._learn(watched, self.stored.outputs.answered(request_id))
            self.listing.wake(request_id)
        return watched is not None

    def let_go(self) -> None:
        """Lets all who wait for a request of this process go, because the process is about to end."""
        with self._lock:
            watched = list(self._watched.values())
        for one in watched:
            one.end()

    def waiting(self) -> Waiting:
        """Returns what this process knows about its own requests."""
        with self._lock:
            watched, submitted, images = list(self._watched.values()), self._submitted, self._images
        unanswered = [w for w in watched if w.unanswered]
        return Waiting(
            submitted=submitted,
            images=images,
            requests=tuple(w.request_id for w in unanswered),
            sent_at=unanswered[0].first_message_at if unanswered else None,
            just_sent=sum(len(w.in_queue) for w in watched if w.seconds < LAG_SECONDS),
        )

    def _start(self, step: Callable[[WatchedRequest], None], watched: WatchedRequest) -> bool:
        """Calls `step` in a thread. Returns False if there are too many threads."""
        try:
            Thread(target=step, args=[watched], name=f"poll-{watched.request_id}", daemon=True).start()
        except RuntimeError as error:
            log.error("%s", error, extra={"request_id": watched.request_id})
            return False
        return True

    def _watch(self, watched: WatchedRequest) -> None:
        """Runs in the polling thread of a request."""
        try:
            if shard_of(watched.request_id) == self.journal.shard and not watched.sent_before:
                self._poll_with_others(watched)
            if watched.waits:
                self._poll_alone(watched)
        finally:
            self._forget(watched)
            self._end(watched)
            if not self.waiting().requests:
                self.wake_autoscaler()

    def _poll_with_others(self, watched: WatchedRequest) -> None:
        """Takes what the common listing finds, until nothing is missing or the time is over."""
        found: set[ImageId] = set()
        with self.listing.follow(watched.request_id, watched.in_queue) as followed:
            while watched.waits and (left := self.request_timeout - watched.seconds) > 0:
                unread = found - watched.predictions.keys()
                new = followed.wait(min(left, AGAIN_SECONDS if unread else LOOK_SECONDS))
                if new is None:
                    return
                found.update(new)
                self._poll(watched, lambda: found, followed.read)
                if not new:
                    self._note_deletion(watched)

    def _poll_alone(self, watched: WatchedRequest) -> None:
        """Lists the request itself from time to time. The last poll takes place after the timeout."""
        while True:
            over = watched.seconds >= self.request_timeout
            self._poll(watched, lambda: self.stored.outputs.answered(watched.request_id))
            self._note_deletion(watched)
            if over or not watched.waits:
                return
            Event().wait(poll_pause(watched.seconds))

    def _note_deletion(self, watched: WatchedRequest) -> None:
        try:
            self.stored.note_deletion(watched)
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": watched.request_id})

    def _poll(
        self,
        watched: WatchedRequest,
        answered: Callable[[], Iterable[ImageId]],
        read: Mapping[ImageId, Prediction] = MappingProxyType({}),
    ) -> None:
        """Learns the predictions of the images that are answered, of which some are read already."""
        try:
            self._learn(watched, answered(), read)
            for prediction in self.deduplication.answer_copies(watched):
                note_answer(prediction, "cached")
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": watched.request_id})
        except Exception:
            log.exception("a poll failed", extra={"request_id": watched.request_id})

    def _learn(
        self,
        watched: WatchedRequest,
        answered: Iterable[ImageId],
        read: Mapping[ImageId, Prediction] = MappingProxyType({}),
    ) -> None:
        new = watched.without_prediction(answered)
        if new:
            unread = [image_id for image_id in new if image_id not in read]
            learned = watched.learn({**read, **self.stored.fetch(unread)})
            for prediction in learned:
                note_answer(prediction, prediction.status)
                ANSWER_SECONDS.observe(watched.seconds)
            self.deduplication.learn(watched, learned)

    def _forget(self, watched: WatchedRequest) -> None:
        with self._lock:
            if self._watched.get(watched.request_id) is watched:  # a retry has not replaced it
                del self._watched[watched.request_id]
        watched.end()

    def _end(self, watched: WatchedRequest) -> None:
        counts = watched.result().counts
        IMAGES.labels("unanswered").inc(watched.unanswered if watched.waits else 0)
        how = "waited too long" if watched.waits else "was deleted" if watched.deleted else "is answered"
        log.info(
            f"a request {how}",
            extra={"request_id": watched.request_id, "seconds": round(watched.seconds, 3), **counts},
        )
        try:
            if watched.waits or not self._tell(watched):
                self.journal.leave(watched.request_id)
            elif not watched.sent_before:
                self.journal.close(watched.request_id)
            elif not (watched.deleted or self.watched(watched.request_id)):
                # Otherwise it has been sent once more, or whoever deletes it must see that it was sent again.
                self.journal.release(watched.request_id)
        except CloudError as error:
            log.warning(
                "%s; a later run of the autoscaler deletes it",
                error,
                extra={"request_id": watched.request_id},
            )

    def _tell(self, watched: WatchedRequest) -> bool:
        """Notes that the topic must be told. Returns False if that failed, and is left to recovery.

        Nothing is told of a request that was deleted.
        """
        if watched.deleted:
            return True
        try:
            self.notices.tell(notice_of(watched.result()))
        except CloudError as error:
            log.warning("%s; it is told later", error, extra={"request_id": watched.request_id})
            return False
        return True


def poll_pause(waited: float, slowest: float = SLOWEST_POLL_SECONDS) -> float:
    """Returns the pause before the next poll in seconds: a share of the time waited, within limits."""
    return max(FIRST_POLL_SECONDS, min(waited * POLL_SHARE, slowest))


def note_answer(prediction: Prediction, outcome: str) -> None:
    IMAGES.labels(outcome).inc()
    log.info(
        "answered",
        extra={"image_id": prediction.image_id, "outcome": outcome, "label": prediction.label},
    )
