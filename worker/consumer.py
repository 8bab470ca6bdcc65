"""Processes the messages in the request queue: receives, fetches, stores and settles.

In between, the pipeline decodes and classifies the images, and also those of slices.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from cloud.errors import CloudError
from cloud.prediction import Failure, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from worker import metrics
from worker.held import HeldImages
from worker.pipeline import Pipeline
from worker.postponing import postpone
from worker.slices import Slices
from worker.steps import ImageWork, Steps
from worker.threads import start
from worker.work import Fate, Outcome

log = logging.getLogger(__name__)

POLL_SECONDS = 1  # the length of a long poll, and thus the longest that a drain takes if there is no work
RETRY_SECONDS = 5  # the pause after a failed receive
RECEIVERS = 3  # the threads that receive as long as the queue is long; otherwise, one does
S3_THREADS = 64  # the most calls of S3 at once
LOOK_SECONDS = 0.25  # how often the consumer looks whether it should end
LINGER_SECONDS = 0.5  # how long a message waits for others, to be deleted together with them


class Settled(NamedTuple):
    """A message that this worker has done with."""

    message: Message
    fate: Fate
    answered: bool = False
    """Whether this worker wrote the prediction for the image. The first prediction for an image stays."""


def no_cache(sha256: str, prediction: Prediction) -> None:
    """Does nothing. Used when predictions are not cached."""


class Consumer:
    """Receives messages, has their images classified and their predictions stored, and deletes them.

    `slices` are worked on beside them, in the same pipeline, which ends with the consumer. The answer cache
    does not learn from them.

    `idle_seconds` is the time without a message after which the consumer ends; 0 means never. `on_progress`
    is called several times a second as soon as the worker is of use, with the number of new predictions and
    rows, and the seconds in which there was work since the last call. `remember` is called with the SHA-256
    of each classified image and its prediction.
    """

    def __init__(
        self,
        queue: RequestQueue,
        steps: Steps,
        pipeline: Pipeline,
        *,
        idle_seconds: float,
        slices: Slices | None = None,
        on_progress: Callable[[int, float], None] = lambda images, seconds: None,
        remember: Callable[[str, Prediction], None] = no_cache,
    ) -> None:
        self.queue, self.steps, self.pipeline, self.slices = queue, steps, pipeline, slices
        self.heartbeat, self.idle_seconds = pipeline.heartbeat, idle_seconds
        self.on_progress, self.remember = on_progress, remember
        self.held = HeldImages(pipeline.busy)
        self.queue_is_long = Event()
        self.may_receive = False
        """Whether this worker is of use: it has got messages, or SQS lets it receive from both queues."""
        self.settled: SimpleQueue[Settled] = SimpleQueue()
        self.returning: list[Message] = []

    def run(self, stop: Event) -> None:
        """Processes messages until `stop` is set. Sets it when no message came for `idle_seconds`.

        Then, the images that are being classified are finished, and the other messages go back to the queue.
        """
        self.stop, self.s3 = stop, ThreadPoolExecutor(S3_THREADS, thread_name_prefix="s3")
        self.pipeline.start(stop)
        receivers = start("receive", RECEIVERS, self.receive_all)
        if self.slices:
            receivers += self.slices.start(stop, self.has_time)
        last_work = time.monotonic()
        while (receiving := any(thread.is_alive() for thread in receivers)) or self.busy():
            if self.settle_some() or self.busy():
                last_work = time.monotonic()
            elif (
                self.idle_seconds and time.monotonic() - last_work >= self.idle_seconds and not stop.is_set()
            ):
                log.info("no work for %.0f s: this worker ends", self.idle_seconds)
                stop.set()
            if not receiving:  # else they could receive again what is given back
                self.give_back()
        self.pipeline.end()
        self.s3.shutdown()
        if self.slices:
            self.slices.end()
        self.tell_progress(0)

    def busy(self) -> bool:
        in_slices = self.slices is not None and self.slices.busy()
        return bool(self.held or not self.settled.empty() or self.returning or in_slices)

    def has_time(self) -> bool:
        """Returns whether no more images of requests wait in the queue than this worker can take at once."""
        return not self.queue_is_long.is_set() and self.held.has_room(MAX_BATCH)

    def receive_all(self, number: int) -> None:
        """Receives messages, as long as there is room for them. Only the first thread reads a short queue."""
        while not self.stop.is_set():
            if number and not self.queue_is_long.wait(POLL_SECONDS):
                continue
            if not self.held.reserve(MAX_BATCH, POLL_SECONDS):
                continue
            messages = self.receive()
            self.heartbeat.hold(messages)
            self.held.receive(len(messages), MAX_BATCH)
            if len(messages) == MAX_BATCH:
                self.queue_is_long.set()
            else:
                self.queue_is_long.clear()
            for message in messages:
                self.s3.submit(self.fetch, message)

    def receive(self) -> list[Message]:
        """Returns the next messages. After an error, returns none, after a pause that `stop` ends."""
        try:
            messages = self.queue.receive(MAX_BATCH, POLL_SECONDS)
        except CloudError as error:
            log.warning("%s; next try in %d s", error, RETRY_SECONDS)
            self.stop.wait(RETRY_SECONDS)
            return []
        if messages or not (self.slices and self.slices.refused):
            self.may_receive = True
        return messages

    def fetch(self, message: Message) -> None:
        work = self.steps.begin(message, self.held, self)
        if work is None:
            self.settle(message, Fate.DELETED)
            return
        with self.pipeline.step(work):
            self.pipeline.go_on()
            if failure := work.fetch():
                self.store(work, failure)
            else:
                self.pipeline.put(work)

    def answer(self, work: ImageWork, outcome: Outcome) -> None:
        self.s3.submit(self.store, work, outcome)

    def abandon(self, work: ImageWork, fate: Fate) -> None:
        self.settle(work.message, fate)

    def waiting(self, work: ImageWork) -> AbstractContextManager[None]:
        return self.heartbeat.waiting(work.message)

    def store(self, work: ImageWork, outcome: Outcome) -> None:
        with self.pipeline.step(work):
            prediction = self.steps.predict(work, outcome)
            answered = self.steps.store(prediction)
            self.settle(work.message, Fate.DELETED, answered)
            if not isinstance(outcome, Failure):
                self.remember(work.sha256, prediction)

    def settle(self, message: Message, fate: Fate, answered: bool = False) -> None:
        """Passes a message on to the thread that deletes messages or gives them back."""
        self.settled.put(Settled(message, fate, answered))
        self.held.settle()

    def settle_some(self) -> bool:
        """Deletes or postpones the next settled messages, at most ten. Returns whether there were any."""
        found = list(self.next_settled())
        by_fate = {fate: [one.message for one in found if one.fate is fate] for fate in Fate}
        if by_fate[Fate.DELETED]:
            self.s3.submit(self.delete, by_fate[Fate.DELETED])
        if by_fate[Fate.POSTPONED]:
            self.s3.submit(postpone, self.queue, by_fate[Fate.POSTPONED], self.heartbeat.visibility_timeout)
        self.returning += by_fate[Fate.GIVEN_BACK]
        self.heartbeat.drop([one.message for one in found if one.fate is not Fate.GIVEN_BACK])
        metrics.IMAGES.labels("returned").inc(len(found) - len(by_fate[Fate.DELETED]))
        self.tell_progress(sum(one.answered for one in found))
        return bool(found)

    def tell_progress(self, predictions: int) -> None:
        if not self.may_receive:
            return
        rows = self.slices.take_count() if self.slices else 0
        seconds = self.pipeline.busy.seconds()
        metrics.BUSY_SECONDS.inc(seconds)
        self.on_progress(predictions + rows, seconds)

    def next_settled(self) -> Iterator[Settled]:
        """Yields at most ten messages that are settled within LINGER_SECONDS.

        Waits for the first one for at most LOOK_SECONDS, and for none when there is no more work.
        """
        until = time.monotonic() + LOOK_SECONDS
        for number in range(MAX_BATCH):
            wait = until - time.monotonic() if self.held or not number else 0
            try:
                yield self.settled.get(timeout=max(0, wait))
            except Empty:
                return
            if not number:
                until = time.monotonic() + LINGER_SECONDS

    def delete(self, messages: list[Message]) -> None:
        try:
            self.queue.delete(messages)
        except CloudError as error:
            log.warning("%s; the messages come back after the visibility timeout", error)

    def give_back(self) -> None:
        """Makes the messages visible to other workers at once that this one will not finish.

        That this worker received them counts as no try of their images.
        """
        messages, self.returning = self.returning, []
        if not messages:
            return
        log.info("draining: %d messages go back to the queue", len(messages))
        self.heartbeat.drop(messages)
        try:
            self.queue.renew(messages)
        except CloudError as error:
            log.warning("%s; they come back after the visibility timeout", error)
