"""One request: upload, enqueue, and watch the output bucket until all its images are answered."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError
from cloud.prediction import Prediction
from cloud.request_queue import RequestQueue
from controller.answer_feed import AnswerFeed
from controller.answers import RequestAnswer
from controller.autoscaler import Waiting
from controller.idempotency import Claim
from controller.intake import Upload
from controller.known_answers import KnownAnswers
from controller.metrics import ANSWER_SECONDS, IMAGES, UPLOAD_SECONDS
from controller.open_requests import OpenRequests
from controller.watched import Watched

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 0.03
SLOWEST_POLL_SECONDS = 1.0
POLL_SHARE = 0.1  # of the time waited so far: what polling may add to it
YOUNG_SECONDS = 30  # requests that wait no longer are polled together
LAG_SECONDS = 60  # SQS's counts are right after so long


class Submissions:
    def __init__(
        self,
        inputs: InputBucket,
        outputs: OutputBucket,
        queue: RequestQueue,
        open_requests: OpenRequests,
        known_answers: KnownAnswers,
        request_timeout: float,
    ) -> None:
        self.inputs, self.outputs, self.queue = inputs, outputs, queue
        self.open_requests, self.known_answers = open_requests, known_answers
        self.request_timeout = request_timeout
        self.pool = ThreadPoolExecutor(32, thread_name_prefix="s3")
        self.look_at_fleet: Callable[[], None] = lambda: None
        """Called when images were sent, and when no request of this process waits any more."""
        self.feed = AnswerFeed(outputs)
        self._watched: dict[str, Watched] = {}
        self._submitted = self._images = 0
        self._lock = Lock()

    @UPLOAD_SECONDS.time()
    def submit(self, request_id: str, uploads: Sequence[Upload], claim: Claim | None = None) -> Watched:
        """Upload before enqueue. CloudError when AWS does not take them: then nothing was asked.

        With a `claim`, TakenOver when another POST with its key was faster.
        """
        copies = self.known_answers.copies(uploads)
        try:
            self.open_requests.open(request_id, len(uploads), copies)
            version = self.known_answers.version()
            versions = [None if upload.image_id in copies else version for upload in uploads]
            stored = self.pool.map(self._store, uploads, versions)
            watched = Watched(request_id, [upload.image_id for upload in uploads], copies)
            known = {prediction.image_id: prediction for prediction in stored if prediction}
            watched.know(known)
            self._answer_copies(watched)
            if claim:
                claim.accept()
            self.queue.send(watched.in_queue)
        except CloudError:
            if not claim or claim.release():
                self._abandon(request_id)
            raise
        for prediction in known.values():
            note_answer(prediction, "cached" if prediction.cached else "refused")
        for image_id in watched.in_queue:
            log.info("queued", extra={"image_id": image_id})
        if watched.unanswered:
            self.watch(watched)
        else:
            watched.end()
            self._end(watched)
        return watched

    def watch(self, watched: Watched) -> None:
        """Its messages are sent: polls until all its images are answered."""
        with self._lock:
            self._watched[watched.request_id] = watched
            self._submitted += 1
            self._images += len(watched.in_queue)
        self.look_at_fleet()
        Thread(target=self._watch, args=[watched], name=f"poll-{watched.request_id}", daemon=True).start()

    def wait(self, request_id: str, seconds: float) -> None:
        """Until the request is complete, for at most so many seconds; any process can."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if watched := self.watched(request_id):
                watched.finished.wait(left)
            elif not self._is_open(request_id):
                if not self.watched(request_id):  # else `read` answers as it knows it, which may be less
                    return
            else:
                Event().wait(min(left, self._pause(seconds - left)))

    def read(self, request_id: str) -> RequestAnswer | None:
        """As this process watches it, or else from S3. None when unknown."""
        found = self.watched(request_id) or self.load(request_id)
        return found.answer() if found else None

    def watched(self, request_id: str) -> Watched | None:
        """A request that this process watches."""
        with self._lock:
            return self._watched.get(request_id)

    def load(self, request_id: str) -> Watched | None:
        """From S3 alone, so that any process can answer, also after a restart. None when unknown."""
        stored = self.inputs.image_ids(request_id)  # first: who cancels answers, then deletes
        answered = self.outputs.answered(request_id)
        image_ids = {*stored, *answered}
        if not image_ids:
            return None
        found = Watched(request_id, image_ids)
        found.know(self.fetch(answered))
        return found

    def refresh(self, found: Watched) -> None:
        """Brings what was loaded up to date."""
        known = found.predictions
        answered = self.outputs.answered(found.request_id)
        kept = {image_id: known[image_id] for image_id in answered if image_id in known}
        new = self.fetch(image_id for image_id in answered if image_id not in known)
        if new or len(kept) < len(known):
            found.know(kept | new)

    def fetch(self, image_ids: Iterable[str]) -> dict[str, Prediction]:
        """Those of these images that are answered."""
        found = self.pool.map(self.outputs.get_prediction, image_ids)
        return {prediction.image_id: prediction for prediction in found if prediction}

    def waiting(self) -> Waiting:
        with self._lock:
            watched, submitted, images = list(self._watched.values()), self._submitted, self._images
        return Waiting(
            submitted=submitted,
            images=images,
            requests=tuple(w.request_id for w in watched if w.unanswered),
            just_sent=sum(len(w.in_queue) for w in watched if w.seconds < LAG_SECONDS),
        )

    def _store(self, upload: Upload, version: str | None) -> Prediction | None:
        """The image, if it was not refused, and its answer, if it is known."""
        prediction: Prediction | None
        if upload.refusal:
            prediction = Prediction.failed(upload.image_id, upload.refusal.code, upload.refusal.message)
        else:
            prediction = self.known_answers.get(version, upload)
            upload.stream.seek(0)
            self.inputs.put_image(upload.image_id, upload.stream, upload.content_type)
            log.info("uploaded", extra={"image_id": upload.image_id, "content_type": upload.content_type})
        if prediction:
            self.outputs.put_prediction(prediction)
        return prediction

    def _is_open(self, request_id: str) -> bool:
        request = self.open_requests.get(request_id)
        return request is not None and not self.open_requests.progress(request).complete

    def _answer_copies(self, watched: Watched) -> None:
        """One that has another answer already, being cancelled, gets that with the next poll."""
        made = [
            watched.predictions[first].of(image_id)
            for image_id, first in watched.copies.items()
            if first in watched.predictions and image_id not in watched.predictions
        ]
        put = self.pool.map(self.outputs.put_prediction, made)
        answered = {p.image_id: p for p, first in zip(made, put, strict=True) if first}
        if answered:
            watched.know({**watched.predictions, **answered})
        for prediction in answered.values():
            note_answer(prediction, "cached")

    def _abandon(self, request_id: str) -> None:
        """Nobody got the request's id, so nobody can ask for it."""
        try:
            self.open_requests.close(request_id)
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": request_id})

    def _watch(self, watched: Watched) -> None:
        """The polling thread."""
        try:
            while watched.seconds < self.request_timeout:
                try:
                    self._poll(watched)
                except CloudError as error:
                    log.warning("%s", error, extra={"request_id": watched.request_id})
                if not watched.unanswered:
                    break
                Event().wait(self._pause(watched.seconds))
        finally:
            with self._lock:
                if self._watched.get(watched.request_id) is watched:  # nobody sent some of it again
                    del self._watched[watched.request_id]
            watched.end()
            self._end(watched)
            if not self.waiting().requests:
                self.look_at_fleet()

    def _poll(self, watched: Watched) -> None:
        if is_young(watched):
            with self._lock:
                young = [w.request_id for w in self._watched.values() if is_young(w)]
            answered = self.feed.answered(watched.request_id, [watched.request_id, *young])
        else:
            answered = self.outputs.answered(watched.request_id)
        new = [image_id for image_id in answered if image_id not in watched.predictions]
        if new:
            found = self.fetch(new)
            watched.know({**watched.predictions, **found})
            for prediction in found.values():
                note_answer(prediction, prediction.status)
                ANSWER_SECONDS.observe(watched.seconds)
        self._answer_copies(watched)

    def _end(self, watched: Watched) -> None:
        counts = watched.answer().counts
        IMAGES.labels("unanswered").inc(watched.unanswered)
        log.info(
            "a request waited too long" if watched.unanswered else "a request is answered",
            extra={"request_id": watched.request_id, "seconds": round(watched.seconds, 3), **counts},
        )
        if not watched.unanswered and not self.watched(watched.request_id):
            try:
                self.open_requests.close(watched.request_id)
            except CloudError as error:
                log.warning("%s; a later look closes it", error, extra={"request_id": watched.request_id})

    def _pause(self, waited: float) -> float:
        """Quick at first, then a share of the time waited."""
        return max(FIRST_POLL_SECONDS, min(waited * POLL_SHARE, SLOWEST_POLL_SECONDS))


def note_answer(prediction: Prediction, outcome: str) -> None:
    IMAGES.labels(outcome).inc()
    log.info(
        "answered",
        extra={"image_id": prediction.image_id, "outcome": outcome, "label": prediction.label},
    )


def is_young(watched: Watched) -> bool:
    return watched.seconds < YOUNG_SECONDS and not watched.sent_before
