"""Decodes and classifies images that are fetched, in threads of their own.

Each image goes from one step to the next by itself, so that no image waits for another one's fetch. The model
takes those that are ready when it is, and images of requests before those of batches.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Lock
from typing import Protocol

from cloud.errors import CloudError
from cloud.prediction import Failure
from worker import metrics
from worker.decoder import CannotStart, Decoder, Exceeded
from worker.decoder_limits import PATIENT
from worker.heartbeat import Heartbeat
from worker.held import BusyTime
from worker.labels import Top
from worker.pixels import Pixels, full_size
from worker.preprocessing import Preprocessing
from worker.threads import start, yield_to_others
from worker.work import Draining, Fate, RequestDeleted, Work
from worker.work_queue import WorkQueue

log = logging.getLogger(__name__)

LONGEST_SECONDS = 0.01  # for which images of slices keep the model


class Classifier(Protocol):
    """What the pipeline needs of a model. worker.engine.Classifier is the implementation."""

    @property
    def model(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def streams(self) -> int: ...
    @property
    def batch_sizes(self) -> Sequence[int]: ...
    @property
    def preprocessing(self) -> Preprocessing: ...

    def classify(self, images: Sequence[Pixels], labels: int) -> list[Top]: ...


class Pipeline:
    """Decodes the images that are put into it, classifies them, and gives each its outcome.

    `decoders` decode one image each at once, and end with the pipeline. An image that takes too much of them
    is set aside: it waits for a decoder with higher limits, of which there is one, while others pass it.
    """

    def __init__(self, classifier: Classifier, heartbeat: Heartbeat, decoders: Sequence[Decoder]) -> None:
        self.classifier, self.heartbeat, self.decoders = classifier, heartbeat, decoders
        self.busy = BusyTime()
        self.seconds_an_image = 0.0
        """That the model took last for an image of a full batch, or 0 before the first image."""
        self.classified = 0
        """The images that the model has classified so far."""
        self.fetched, self.aside, self.ready = WorkQueue(), WorkQueue(), WorkQueue()
        self._lock = Lock()

    def start(self, stop: Event) -> None:
        """Starts the threads. When `stop` is set, what is not worth finishing is given back."""
        self.stop = stop
        self.threads = [
            (self.fetched, start("decode", len(self.decoders), self.decode_all)),
            (self.aside, start("decode-patiently", 1, self.decode_aside)),
            (self.ready, start("classify", self.classifier.streams, self.classify_all)),
        ]

    def end(self) -> None:
        """Ends the threads. Each image must have ended before."""
        for queue, threads in self.threads:
            for _ in threads:
                queue.end()
            for thread in threads:
                thread.join()

    def put(self, work: Work) -> None:
        """Takes an image whose file is fetched."""
        self.fetched.put(work)

    def go_on(self, *works: Work) -> None:
        """Raises Draining when the worker has been told to stop, unless all of `works` are to be finished."""
        if self.stop.is_set() and not (works and all(work.finished_when_draining for work in works)):
            raise Draining

    @contextmanager
    def step(self, *works: Work) -> Iterator[None]:
        """Must enclose each step. If the step fails, the images are abandoned."""
        try:
            with self.heartbeat.working([work.message for work in works]):
                yield
        except Draining:
            abandon(works, Fate.GIVEN_BACK)
        except RequestDeleted:
            log.info("its request was deleted", extra={"image_id": works[0].name})
            abandon(works, Fate.DELETED)
        except (CloudError, InterruptedError) as error:
            log.warning("%s", error, extra={"image_id": works[0].name})
            abandon(works, Fate.POSTPONED)
        except CannotStart:
            raise  # it ends the worker, which would use up the tries of one image after the other
        except Exception:
            log.exception("a step failed; its messages come back after the visibility timeout")
            abandon(works, Fate.LEFT)

    def decode_all(self, number: int) -> None:
        yield_to_others()
        with self.decoders[number] as decoder:
            while work := self.fetched.get():
                with self.step(work):
                    try:
                        self.pass_on(work, partial(self.decode, work, decoder))
                    except Exceeded as exceeded:
                        log.info("set aside: %s", exceeded, extra={"image_id": work.name})
                        work.held.set_aside()
                        self.aside.put(work)

    def decode_aside(self, _: int) -> None:
        """Decodes the images that were set aside. Their files are fetched again, not kept meanwhile."""
        yield_to_others()
        while work := self.aside.get():
            work.held.take_up()
            work.make_room()
            with self.step(work):
                self.go_on()
                if failure := work.fetch():
                    work.answer(failure)
                else:
                    self.pass_on(work, partial(self.decode_patiently, work))

    def pass_on(self, work: Work, decode: Callable[[], Failure | None]) -> None:
        """Passes the image on to the model, or answers why it cannot be decoded. Forgets the file."""
        try:
            self.go_on(work)
            failure = decode()
        finally:
            work.forget_file()
        if failure:
            work.answer(failure)
        else:
            self.ready.put(work)

    def decode(self, work: Work, decoder: Decoder) -> Failure | None:
        """Decodes the file into what the network takes. If that is impossible, returns why.

        Raises Exceeded when it takes more than the limits of the decoder.
        """
        started = time.perf_counter()
        found = decoder.decode(work.data, self.classifier.preprocessing)
        if isinstance(found, Failure):
            return found
        work.pixels = found
        work.note("decode", started)
        return None

    def decode_patiently(self, work: Work) -> Failure | None:
        """Does what `decode` does for an image that has exceeded the limits of QUICK.

        When it exceeds those of PATIENT, too, returns that as the reason.
        """
        with Decoder(PATIENT) as decoder:
            try:
                return self.decode(work, decoder)
            except Exceeded as exceeded:
                return exceeded.failure

    def classify_all(self, _: int) -> None:
        while work := self.ready.get():
            works = [work, *self.ready.get_more(work.rank, self.most_at_once(work) - 1)]
            with self.step(*works):
                self.go_on(*works)
                for work, top in zip(works, self.classify(works), strict=True):
                    work.answer(top)

    def most_at_once(self, work: Work) -> int:
        """Returns how many images of this one's rank the model may take at once.

        Those of slices keep it for LONGEST_SECONDS at most, because an image of a request may come meanwhile.
        But there are always as many as the smallest batch has, which takes no longer when it is full.
        """
        sizes = self.classifier.batch_sizes
        if not work.rank or not self.seconds_an_image:
            return sizes[-1]
        return max(
            (size for size in sizes if size * self.seconds_an_image <= LONGEST_SECONDS), default=sizes[0]
        )

    def classify(self, works: Sequence[Work]) -> list[Top]:
        """Returns as many labels as each of the decoded images wants, in their order."""
        started = time.perf_counter()
        images = [work.pixels for work in works if work.pixels is not None]
        tops = self.classifier.classify(images, max(work.labels for work in works))
        seconds = time.perf_counter() - started
        self.seconds_an_image = seconds / full_size(len(works), self.classifier.batch_sizes)
        with self._lock:
            self.classified += len(works)
        metrics.BATCH_IMAGES.observe(len(works))
        metrics.STEP_SECONDS.labels("classify").observe(seconds)
        for work in works:
            work.timings["classify"] = seconds
        return [top[: work.labels] for work, top in zip(works, tops, strict=True)]


def abandon(works: Sequence[Work], fate: Fate) -> None:
    for work in works:
        work.abandon(fate)
