"""Processes the messages in the request queue: receives, fetches, decodes, classifies, stores and settles.

Each step has threads of its own, and each image goes from one to the next by itself, so that no image waits
for another one's fetch. The model takes those that are ready when it is.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import NamedTuple

from cloud.errors import CloudError
from cloud.prediction import Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from worker import metrics
from worker.decoder import Decoder, Exceeded
from worker.heartbeat import Heartbeat
from worker.held import HeldImages
from worker.steps import RequestDeleted, Steps, Work
from worker.threads import start, yield_to_others

log = logging.getLogger(__name__)

POLL_SECONDS = 1  # the length of a long poll, and thus the longest that a drain takes if there is no work
RETRY_SECONDS = 5  # the pause after a failed receive
RECEIVERS = 3  # the threads that receive as long as the queue is long; otherwise, one does
S3_THREADS = 64  # the most calls of S3 at once
LOOK_SECONDS = 0.25  # how often the consumer looks whether it should end
LINGER_SECONDS = 0.5  # how long a message waits for others, to be deleted together with them


class Fate(Enum):
    """What becomes of a message."""

    DELETED = "deleted"
    """Its image has a prediction, or can never have one."""
    GIVEN_BACK = "given back"
    """This worker ends, and another one should receive the message at once."""
    POSTPONED = "postponed"
    """AWS failed, and the image is not to blame. It should be tried again in a while."""
    LEFT = "left"
    """Its image was tried in vain. Another worker receives the message after the visibility timeout."""


class Draining(Exception):
    """The worker has been told to stop, so no further step is begun."""


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

    `decoders` decode one image each at once, and end with the consumer. An image that takes too much of them
    is set aside: it waits for a decoder with higher limits, of which there is one, while others pass it.

    `idle_seconds` is the time without a message after which the consumer ends; 0 means never. `on_progress`
    is called several times a second, with the number of new predictions and the seconds in which there was
    work since the last call. `remember` is called with the SHA-256 of each classified image and its
    prediction.
    """

    def __init__(
        self,
        queue: RequestQueue,
        steps: Steps,
        heartbeat: Heartbeat,
        decoders: Sequence[Decoder],
        *,
        idle_seconds: float,
        on_progress: Callable[[int, float], None] = lambda images, seconds: None,
        remember: Callable[[str, Prediction], None] = no_cache,
    ) -> None:
        self.queue, self.steps, self.heartbeat = queue, steps, heartbeat
        self.decoders, self.idle_seconds = decoders, idle_seconds
        self.on_progress, self.remember = on_progress, remember
        self.held = HeldImages()
        self.queue_is_long = Event()
        self.fetched: SimpleQueue[Work | None] = SimpleQueue()
        self.aside: SimpleQueue[Work | None] = SimpleQueue()
        self.ready: SimpleQueue[Work | None] = SimpleQueue()
        self.settled: SimpleQueue[Settled] = SimpleQueue()
        self.returning: list[Message] = []

    def run(self, stop: Event) -> None:
        """Processes messages until `stop` is set. Sets it when no message came for `idle_seconds`.

        Then, the images that are being classified are finished, and the other messages go back to the queue.
        """
        self.stop, self.s3 = stop, ThreadPoolExecutor(S3_THREADS, thread_name_prefix="s3")
        receivers = start("receive", RECEIVERS, self.receive_all)
        decoders = start("decode", len(self.decoders), self.decode_all)
        patient = start("decode-patiently", 1, self.decode_aside)
        models = start("classify", self.steps.classifier.streams, self.classify_all)
        last_work = time.monotonic()
        while (receiving := any(thread.is_alive() for thread in receivers)) or self.busy():
            if self.settle_some() or self.held:
                last_work = time.monotonic()
            elif (
                self.idle_seconds and time.monotonic() - last_work >= self.idle_seconds and not stop.is_set()
            ):
                log.info("no work for %.0f s: this worker ends", self.idle_seconds)
                stop.set()
            if not receiving:  # else they could receive again what is given back
                self.give_back()
        for work, threads in ((self.fetched, decoders), (self.aside, patient), (self.ready, models)):
            for _ in threads:
                work.put(None)
            for thread in threads:
                thread.join()
        self.s3.shutdown()

    def busy(self) -> bool:
        return bool(self.held or not self.settled.empty() or self.returning)

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
            return self.queue.receive(MAX_BATCH, POLL_SECONDS)
        except CloudError as error:
            log.warning("%s; next try in %d s", error, RETRY_SECONDS)
            self.stop.wait(RETRY_SECONDS)
            return []

    def fetch(self, message: Message) -> None:
        with self.step(message):
            self.go_on()
            work = self.steps.begin(message)
            if work is None:
                self.settle(message, Fate.DELETED)
            elif failure := self.fetch_file(work):
                self.store(work, failure)
            else:
                self.fetched.put(work)

    def fetch_file(self, work: Work) -> Prediction | None:
        """Reads the file. If that cannot be classified, forgets it and returns why."""
        failure: Prediction | None = None
        try:
            failure = self.steps.fetch(work)
            return failure
        finally:
            if failure or not work.data:
                self.steps.forget_file(work)

    def decode_all(self, number: int) -> None:
        yield_to_others()
        with self.decoders[number] as decoder:
            while work := self.fetched.get():
                with self.step(work.message):
                    try:
                        self.decode(work, partial(self.steps.decode, work, decoder))
                    except Exceeded as exceeded:
                        log.info("set aside: %s", exceeded, extra={"image_id": work.image_id})
                        self.held.set_aside()
                        self.aside.put(work)

    def decode_aside(self, _: int) -> None:
        """Decodes the images that were set aside. Their files are fetched again, not kept meanwhile."""
        yield_to_others()
        while work := self.aside.get():
            self.held.take_up()
            with self.step(work.message):
                self.go_on()
                if failure := self.fetch_file(work):
                    self.store(work, failure)
                else:
                    self.decode(work, partial(self.steps.decode_patiently, work))

    def decode(self, work: Work, decode: Callable[[], Prediction | None]) -> None:
        """Passes the image on to the model, or stores why it cannot be decoded. Forgets the file."""
        try:
            self.go_on()
            failure = decode()
        finally:
            self.steps.forget_file(work)
        if failure:
            self.s3.submit(self.store, work, failure)
        else:
            self.ready.put(work)

    def classify_all(self, _: int) -> None:
        while work := self.ready.get():
            works = [work, *self.also_ready()]
            with self.step(*(work.message for work in works)):
                self.go_on()
                for work, prediction in zip(works, self.steps.classify(works), strict=True):
                    self.s3.submit(self.store, work, prediction)

    def also_ready(self) -> Iterator[Work]:
        """Yields further images that are ready to be classified now."""
        for _ in range(self.steps.classifier.batch - 1):
            try:
                if work := self.ready.get_nowait():
                    yield work
            except Empty:
                return

    def store(self, work: Work, prediction: Prediction) -> None:
        with self.step(work.message):
            answered = self.steps.store(prediction)
            self.settle(work.message, Fate.DELETED, answered)
            if work.sha256:
                self.remember(work.sha256, prediction)

    def go_on(self) -> None:
        """Raises Draining when the worker has been told to stop."""
        if self.stop.is_set():
            raise Draining

    @contextmanager
    def step(self, *messages: Message) -> Iterator[None]:
        """Must enclose each step. If the step fails, the messages are settled."""
        try:
            with self.heartbeat.working(messages):
                yield
        except Draining:
            self.settle_all(messages, Fate.GIVEN_BACK)
        except RequestDeleted:
            log.info("its request was deleted", extra={"image_id": messages[0].body})
            self.settle_all(messages, Fate.DELETED)
        except (CloudError, InterruptedError) as error:
            log.warning("%s", error, extra={"image_id": messages[0].body})
            self.settle_all(messages, Fate.POSTPONED)
        except Exception:
            log.exception("a step failed; its messages come back after the visibility timeout")
            self.settle_all(messages, Fate.LEFT)

    def settle_all(self, messages: Sequence[Message], fate: Fate) -> None:
        for message in messages:
            self.settle(message, fate)

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
            self.s3.submit(self.postpone, by_fate[Fate.POSTPONED])
        self.returning += by_fate[Fate.GIVEN_BACK]
        self.heartbeat.drop([one.message for one in found if one.fate is not Fate.GIVEN_BACK])
        metrics.IMAGES.labels("returned").inc(len(found) - len(by_fate[Fate.DELETED]))
        seconds = self.held.busy_seconds()
        metrics.BUSY_SECONDS.inc(seconds)
        self.on_progress(sum(one.answered for one in found), seconds)
        return bool(found)

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

    def postpone(self, messages: list[Message]) -> None:
        try:
            self.queue.postpone(messages, self.heartbeat.visibility_timeout)
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
