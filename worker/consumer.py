import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from threading import Event
from typing import Any, NamedTuple, Protocol

from PIL import Image

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError, NotFound
from cloud.image_file import BadImage, decode, decode_in_a_child
from cloud.image_id import parse
from cloud.prediction import FailureCode, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue, batches
from worker import metrics
from worker.heartbeat import Heartbeat

log = logging.getLogger(__name__)

BATCH = 5  # images per forward pass: a drain waits for one, and memory holds one
POLL_SECONDS = 1  # of a long poll: so long may a drain take when there is no work
AWS_AGAIN_SECONDS = 5  # after a failed receive


class Classifier(Protocol):
    @property
    def model(self) -> str: ...

    def prepare(self, image: Image.Image) -> Any: ...
    def classify(self, tensors: list[Any]) -> list[list[tuple[str, float]]]: ...


@dataclass
class Loaded:
    """An image on its way through the model."""

    message: Message
    sha256: str
    """Of its bytes."""
    tensor: Any
    timings: dict[str, float]


class Stored(NamedTuple):
    done: bool
    """Whether the message is done with."""
    first: bool
    """Whether this is the image's answer: the first one stays."""


def no_cache(sha256: str, prediction: Prediction) -> None:
    pass


class Consumer:
    """receive → fetch → classify → store → delete, until `stop` is set or no work comes."""

    def __init__(
        self,
        queue: RequestQueue,
        inputs: InputBucket,
        outputs: OutputBucket,
        classifier: Classifier,
        heartbeat: Heartbeat,
        *,
        instance_id: str,
        max_receives: int,
        idle_seconds: float,
        on_progress: Callable[[int, float], None] = lambda images, seconds: None,
        remember: Callable[[str, Prediction], None] = no_cache,
    ) -> None:
        self.queue, self.inputs, self.outputs = queue, inputs, outputs
        self.classifier, self.heartbeat = classifier, heartbeat
        self.instance_id, self.max_receives, self.idle_seconds = instance_id, max_receives, idle_seconds
        self.on_progress, self.remember = on_progress, remember
        self.pool = ThreadPoolExecutor(MAX_BATCH, thread_name_prefix="s3")

    def run(self, stop: Event) -> None:
        """Returns when told to stop, or after `idle_seconds` (0: never) without a message."""
        last_work = time.monotonic()
        while not stop.is_set():
            messages = self.receive(stop)
            self.heartbeat.hold(messages)
            for batch in batches(messages, BATCH):
                if stop.is_set():
                    self.give_back(batch)
                else:
                    started = time.monotonic()
                    answered, seconds = self.handle(batch), time.monotonic() - started
                    metrics.BUSY_SECONDS.inc(seconds)
                    self.on_progress(answered, seconds)
                self.heartbeat.drop(batch)
            if messages:
                last_work = time.monotonic()
            elif self.idle_seconds and time.monotonic() - last_work >= self.idle_seconds:
                log.info("no work for %.0f s: this worker ends", self.idle_seconds)
                return
            else:
                self.on_progress(0, 0)

    def receive(self, stop: Event) -> list[Message]:
        try:
            return self.queue.receive(MAX_BATCH, POLL_SECONDS)
        except CloudError as error:
            log.warning("%s; next try in %d s", error, AWS_AGAIN_SECONDS)
            stop.wait(AWS_AGAIN_SECONDS)
            return []

    def give_back(self, messages: Sequence[Message]) -> None:
        log.info("draining: %d messages go back to the queue", len(messages))
        metrics.IMAGES.labels("returned").inc(len(messages))
        try:
            self.queue.give_back(messages)
        except CloudError as error:
            log.warning("%s; they come back after the visibility timeout", error)

    def handle(self, messages: Sequence[Message]) -> int:
        """Answers what it can and deletes these messages; the others come back.

        Returns how many images it answered: not those that were answered, or cancelled, before.
        """
        returned, answered = len(messages), 0
        try:
            outcomes = list(self.pool.map(self.load, messages))
            loaded = [outcome for outcome in outcomes if isinstance(outcome, Loaded)]
            settled = [(m, p) for m, p in zip(messages, outcomes, strict=True) if not isinstance(p, Loaded)]
            classified = self.classify(loaded)
            settled += zip((item.message for item in loaded), classified, strict=True)
            remembered = self.pool.map(self.remember, (item.sha256 for item in loaded), classified)
            stored = list(self.pool.map(lambda pair: self.store(*pair), settled))
            done = [m for (m, _), outcome in zip(settled, stored, strict=True) if outcome.done]
            returned = len(messages) - len(done)
            answered = sum(outcome.first for outcome in stored)
            self.queue.delete(done)
            list(remembered)
            self.heartbeat.step()
        except CloudError as error:
            log.warning("%s; the messages come back after the visibility timeout", error)
        except Exception:
            log.exception("a batch failed; its messages come back after the visibility timeout")
        metrics.IMAGES.labels("returned").inc(returned)
        return answered

    def load(self, message: Message) -> "Loaded | Prediction | Exception | None":
        """The image as a tensor; or its answer, when it has one without the model; or None for junk.

        An exception is the reason why it must come back.
        """
        try:
            parse(message.image_id)
        except ValueError as error:
            log.error("a message that nobody can answer is deleted: %s", error)
            return None
        log.info(
            "received",
            extra={
                "image_id": message.image_id,
                "receives": message.receives,
                "instance_id": self.instance_id,
            },
        )
        if message.receives >= self.max_receives:
            tried = f"It was tried {message.receives - 1} times and its worker never finished."
            return self.failed(
                message, FailureCode.GAVE_UP, f"{tried} The image may be one that crashes its decoder."
            )
        try:
            return self.fetch(message)
        except NotFound:
            return self.failed(
                message, FailureCode.IMAGE_MISSING, "The image is no longer in the input bucket."
            )
        except BadImage as error:
            return self.failed(message, error.code, error.message)
        except (CloudError, InterruptedError) as error:
            return error

    def fetch(self, message: Message) -> Loaded:
        started = time.perf_counter()
        data, _ = self.inputs.read(message.image_id)
        fetched = time.perf_counter()
        image = decode(data) if message.receives == 1 else decode_in_a_child(data)
        tensor = self.classifier.prepare(image)
        decoded = time.perf_counter()
        self.heartbeat.step()
        timings = {"fetch": fetched - started, "decode": decoded - fetched}
        for step, seconds in timings.items():
            metrics.STEP_SECONDS.labels(step).observe(seconds)
        return Loaded(message, sha256(data).hexdigest(), tensor, timings)

    def classify(self, loaded: list[Loaded]) -> list[Prediction]:
        if not loaded:
            return []
        started = time.perf_counter()
        tops = self.classifier.classify([item.tensor for item in loaded])
        seconds = time.perf_counter() - started
        metrics.BATCH_IMAGES.observe(len(loaded))
        metrics.STEP_SECONDS.labels("classify").observe(seconds)
        self.heartbeat.step()
        return [
            Prediction.classified(
                item.message.image_id,
                top,
                model=self.classifier.model,
                instance_id=self.instance_id,
                timings={k: round(v, 4) for k, v in {**item.timings, "classify": seconds}.items()},
            )
            for item, top in zip(loaded, tops, strict=True)
        ]

    def failed(self, message: Message, code: FailureCode, reason: str) -> Prediction:
        return Prediction.failed(
            message.image_id, code, reason, model=self.classifier.model, instance_id=self.instance_id
        )

    def store(self, message: Message, outcome: Prediction | Exception | None) -> Stored:
        if isinstance(outcome, Exception):
            log.warning("%s", outcome, extra={"image_id": message.image_id})
            return Stored(done=False, first=False)
        first = False
        if outcome is not None:
            first = self.outputs.put_prediction(outcome)
            metrics.IMAGES.labels(outcome.status if first else "answered_already").inc()
            log.info(
                outcome.status if first else "was answered already",
                extra={
                    "image_id": message.image_id,
                    "instance_id": self.instance_id,
                    "label": outcome.label,
                    "error": outcome.error and outcome.error.code,
                    "timings": outcome.timings,
                },
            )
        return Stored(done=True, first=first)
