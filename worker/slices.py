"""Processes the messages in the batch queue: receives slices, fetches their images and writes their rows.

In between, the pipeline decodes and classifies the images, after those of requests.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread

from cloud.batches.batch import Row
from cloud.batches.slice import Slice
from cloud.batches.store import BatchStore
from cloud.clients import S3Client
from cloud.errors import CloudError, NotFound
from cloud.failure_code import FailureCode
from cloud.prediction import GAVE_UP, Failure
from cloud.request_queue import Message, RequestQueue
from worker import metrics
from worker.batch_facts import BatchFacts, Unanswerable
from worker.held import ByteBudget, HeldImages
from worker.pipeline import Pipeline
from worker.slice_end import SliceEnd
from worker.slice_in_hand import RowWork, SliceInHand
from worker.slice_source import SliceSource
from worker.steps import BYTES_AHEAD, storage_failed
from worker.threads import start
from worker.work import Fate

log = logging.getLogger(__name__)

POLL_SECONDS = 1  # the length of a long poll, and thus the longest that a drain takes if there is no work
PAUSE_SECONDS = 4  # the pause after a poll in vain, so that an idle worker polls every five seconds
RETRY_SECONDS = 5  # the pause after a failed receive
LOOK_SECONDS = 0.1  # how often a worker that has no time for a slice looks again
FETCHES = 32  # the most images of slices that are fetched at once
FETCH_PAUSES = (1, 4, 15)  # seconds before a fetch is tried again that S3 has failed
MOST_SLICES = 8  # in hand at once: they may be small, and an image of one may take long


class Slices:
    """Receives slices, has their images classified, writes their rows and deletes their messages.

    The next slice is received while the last images of the one before are in the pipeline. A slice that was
    received before has perhaps ended its worker, so it is halved. If it is a single image, it is tried as
    often as an image of a request, at most `max_receives` times.
    """

    def __init__(
        self,
        queue: RequestQueue,
        store: BatchStore,
        s3: S3Client,
        pipeline: Pipeline,
        max_receives: int,
    ) -> None:
        self.queue, self.s3, self.pipeline, self.max_receives = queue, s3, pipeline, max_receives
        self.facts, self.heartbeat = BatchFacts(store), pipeline.heartbeat
        self.last_step = SliceEnd(queue, store, self.heartbeat.visibility_timeout)
        self.held, self.budget = HeldImages(pipeline.busy), ByteBudget(BYTES_AHEAD)
        self.in_hand: list[SliceInHand] = []
        self.beginning = False
        self.refused = False
        """Whether SQS has refused the last receive."""
        self._lock = Lock()
        self._rows = 0

    def start(self, stop: Event, has_time: Callable[[], bool]) -> list[Thread]:
        """Starts to receive slices whenever `has_time` returns True, until `stop` is set.

        Then, images that are fetched are finished, and the rest goes back to the queue.
        """
        self.stop, self.has_time = stop, has_time
        self.threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="slice")
        return start("receive-slices", 1, self.receive_all)

    def end(self) -> None:
        """Must be called once the threads have ended and nothing is in hand."""
        self.threads.shutdown()

    def busy(self) -> bool:
        return self.beginning or bool(self.in_hand)

    def take_count(self) -> int:
        """Returns how many rows were made since the last call."""
        with self._lock:
            rows, self._rows = self._rows, 0
            return rows

    def receive_all(self, _: int) -> None:
        while not self.stop.is_set():
            if len(self.in_hand) >= MOST_SLICES or not self.has_time():
                self.stop.wait(LOOK_SECONDS)
                continue
            try:
                messages = self.queue.receive(1, POLL_SECONDS)
                self.refused = False
            except NotFound as error:
                log.warning("this worker takes no part in batches: %s", error)
                self.refused = False
                return
            except CloudError as error:
                self.refused = True
                log.warning("%s; next try in %d s", error, RETRY_SECONDS)
                self.stop.wait(RETRY_SECONDS)
                continue
            for message in messages:
                self.take(message)
            if not messages:
                self.stop.wait(PAUSE_SECONDS)

    def take(self, message: Message) -> None:
        """Begins the work on a slice. Returns when all of its images are on their way."""
        self.beginning = True
        self.heartbeat.hold([message], self.queue)
        hand: SliceInHand | None = None
        try:
            with self.heartbeat.working([message]):
                hand = self.begin(message)
        except CloudError as error:
            log.warning("%s", error)
            self.last_step.postpone(message)
        except Exception:
            log.exception("a slice cannot be begun; it comes back after the visibility timeout")
        if hand:
            self.in_hand.append(hand)
            self.feed(hand)
        else:
            self.heartbeat.drop([message])
        self.beginning = False

    def begin(self, message: Message) -> SliceInHand | None:
        """Returns None when this worker has nothing to do for the slice. Raises CloudError when AWS fails."""
        try:
            part = Slice.read(message.body)
            if message.receives > 1 and len(part) > 1:
                self.queue.replace(message, [half.model_dump_json() for half in part.halves()])
                return None
            batch, manifest = self.facts.of(part)
        except (ValueError, Unanswerable) as error:
            log.warning("a message of the batch queue is deleted: %s", error)
            self.queue.delete([message])
            return None
        return SliceInHand(
            message,
            part,
            manifest.images,
            batch.top_k,
            SliceSource.of(self.s3, batch, part.round),
            on_row=self.count,
            on_end=lambda hand: self.threads.submit(self.end_slice, hand),
        )

    def feed(self, hand: SliceInHand) -> None:
        """Sends the images of a slice on their way, each as soon as there is room for it."""
        gave_up = hand.message.receives >= self.max_receives
        for position in hand.part:
            image = hand.images[position]
            if gave_up:
                hand.answer(position, Failure(code=FailureCode.GAVE_UP, message=GAVE_UP))
            elif failure := hand.source.refusal(image):
                hand.answer(position, failure)
            elif self.wait_for_room():
                row = RowWork(
                    hand.message, image.key, self.held, hand, position, self.budget, labels=hand.labels
                )
                self.threads.submit(self.fetch, row)
            else:
                hand.leave(position, Fate.GIVEN_BACK)

    def wait_for_room(self) -> bool:
        """Waits until one more image may be held. Returns False if the worker has been told to stop."""
        while not self.stop.is_set():
            if self.held.reserve(1, POLL_SECONDS):
                self.held.receive(1, 1)
                return True
        return False

    def fetch(self, row: RowWork) -> None:
        for pause in FETCH_PAUSES:
            if not self.try_to_fetch(row):
                return
            self.stop.wait(pause)
        self.try_to_fetch(row, last=True)

    def try_to_fetch(self, row: RowWork, last: bool = False) -> bool:
        """Returns whether the fetch should be tried again."""
        row.make_room()
        with self.pipeline.step(row):
            self.pipeline.go_on()
            try:
                failure = row.fetch()
            except CloudError as error:
                row.forget_file()
                log.warning("%s", error)
                if not last:
                    return True
                failure = storage_failed(1 + len(FETCH_PAUSES), error)
            if failure:
                row.answer(failure)
            else:
                self.pipeline.put(row)
        return False

    def count(self, row: Row) -> None:
        metrics.IMAGES.labels(row.status).inc()
        with self._lock:
            self._rows += 1

    def end_slice(self, hand: SliceInHand) -> None:
        try:
            with self.heartbeat.working([hand.message]):
                self.last_step.end(hand)
        except Exception:
            log.exception("a slice cannot be ended; it comes back after the visibility timeout")
        finally:
            self.heartbeat.drop([hand.message])
            self.in_hand.remove(hand)
