"""Processes the messages in the request queue."""

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
from cloud.image_id import ImageId
from cloud.prediction import FailureCode, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue, batches
from worker import metrics
from worker.heartbeat import Heartbeat

log = logging.getLogger(__name__)

BATCH = 5  # images that are classified at once; a drain waits for one batch, and one must fit into memory
POLL_SECONDS = 1  # the length of a long poll, and thus the longest that a drain takes if there is no work
RETRY_SECONDS = 5  # the pause after a failed receive


class Classifier(Protocol):
    """What the consumer needs of a model. worker.engine.Classifier is the implementation."""

    @property
    def model(self) -> str: ...

    def prepare(self, image: Image.Image) -> Any: ...
    def classify(self, tensors: list[Any]) -> list[list[tuple[str, float]]]: ...


@dataclass
class Loaded:
    """An image that is ready to be classified."""

    message: Message
    image_id: ImageId
    sha256: str
    """The SHA-256 of the file, as hex digits."""
    tensor: Any
    """The image as the model's input."""
    timings: dict[str, float]
    """Seconds by step: `fetch` and `decode`."""


class Outcome(NamedTuple):
    """What becomes of a message."""

    done: bool
    """Whether the message can be deleted. If not, another worker receives it after the visibility timeout."""
    answered: bool
    """Whether this worker wrote the prediction for the image. The first prediction for an image stays."""


def no_cache(sha256: str, prediction: Prediction) -> None:
    """Does nothing. Used when predictions are not cached."""


class Consumer:
    """Receives messages, classifies their images, writes the predictions, and deletes the messages.

    `idle_seconds` is the time without a message after which the consumer ends; 0 means never. A message that
    has been received `max_receives` times gets a failed prediction. `on_progress` is called after each batch
    with the number of new predictions and the seconds that the batch took, and with zeros when there was no
    message. `remember` is called with the SHA-256 of each classified image and its prediction.
    """

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
        """Processes messages until `stop` is set, or until no message came for `idle_seconds`.

        When `stop` is set, the current batch is finished, and the other received messages go back to the
        queue.
        """
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
        """Returns the next messages. After an error, returns none, after a pause that `stop` ends."""
        try:
            return self.queue.receive(MAX_BATCH, POLL_SECONDS)
        except CloudError as error:
            log.warning("%s; next try in %d s", error, RETRY_SECONDS)
            stop.wait(RETRY_SECONDS)
            return []

    def give_back(self, messages: Sequence[Message]) -> None:
        """Makes the messages visible to other workers at once."""
        log.info("draining: %d messages go back to the queue", len(messages))
        metrics.IMAGES.labels("returned").inc(len(messages))
        try:
            self.queue.give_back(messages)
        except CloudError as error:
            log.warning("%s; they come back after the visibility timeout", error)

    def handle(self, messages: Sequence[Message]) -> int:
        """Processes one batch of messages. Those that cannot be processed now become visible again later.

        Returns the number of predictions that were written. Images that had a prediction already, such as
        cancelled ones, are not counted.
        """
        returned, answered = len(messages), 0
        try:
            found = list(self.pool.map(self.load, messages))
            loaded = [item for item in found if isinstance(item, Loaded)]
            settled = [
                (m, item) for m, item in zip(messages, found, strict=True) if not isinstance(item, Loaded)
            ]
            classified = self.classify(loaded)
            settled += zip((item.message for item in loaded), classified, strict=True)
            remembered = self.pool.map(self.remember, (item.sha256 for item in loaded), classified)
            outcomes = list(self.pool.map(self.store, (item for _, item in settled)))
            done = [m for (m, _), outcome in zip(settled, outcomes, strict=True) if outcome.done]
            returned = len(messages) - len(done)
            answered = sum(outcome.answered for outcome in outcomes)
            self.queue.delete(done)
            list(remembered)
            self.heartbeat.step()
        except CloudError as error:
            log.warning("%s; the messages come back after the visibility timeout", error)
        except Exception:
            log.exception("a batch failed; its messages come back after the visibility timeout")
        metrics.IMAGES.labels("returned").inc(returned)
        return answered

    def load(self, message: Message) -> Loaded | Prediction | Outcome:
        """Returns the image, ready to be classified.

        If the image cannot be classified, returns its failed prediction. If there is no prediction to write,
        because the body is no image-id or because the image cannot be read now, returns the outcome.
        """
        try:
            image_id = ImageId(message.body)
        except ValueError as error:
            log.error("a message that nobody can answer is deleted: %s", error)
            return Outcome(done=True, answered=False)
        log.info(
            "received",
            extra={"image_id": image_id, "receives": message.receives, "instance_id": self.instance_id},
        )
        if message.receives >= self.max_receives:
            tried = f"It was tried {message.receives - 1} times and its worker never finished."
            return self.failed(
                image_id, FailureCode.GAVE_UP, f"{tried} The image may be one that crashes its decoder."
            )
        try:
            return self.fetch(message, image_id)
        except NotFound:
            return self.failed(
                image_id, FailureCode.IMAGE_MISSING, "The image is no longer in the input bucket."
            )
        except BadImage as error:
            return self.failed(image_id, error.code, error.message)
        except (CloudError, InterruptedError) as error:
            log.warning("%s", error, extra={"image_id": image_id})
            return Outcome(done=False, answered=False)

    def fetch(self, message: Message, image_id: ImageId) -> Loaded:
        """Reads and decodes the image.

        Raises NotFound when it is no longer stored, BadImage when it cannot be decoded, CloudError when S3
        fails, and InterruptedError when the decoding process was stopped.
        """
        started = time.perf_counter()
        data, _ = self.inputs.read(image_id)
        fetched = time.perf_counter()
        image = decode(data) if message.receives == 1 else decode_in_a_child(data)
        tensor = self.classifier.prepare(image)
        decoded = time.perf_counter()
        self.heartbeat.step()
        timings = {"fetch": fetched - started, "decode": decoded - fetched}
        for step, seconds in timings.items():
            metrics.STEP_SECONDS.labels(step).observe(seconds)
        return Loaded(message, image_id, sha256(data).hexdigest(), tensor, timings)

    def classify(self, loaded: list[Loaded]) -> list[Prediction]:
        """Returns the predictions for the images, in their order."""
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
                item.image_id,
                top,
                model=self.classifier.model,
                instance_id=self.instance_id,
                timings={k: round(v, 4) for k, v in {**item.timings, "classify": seconds}.items()},
            )
            for item, top in zip(loaded, tops, strict=True)
        ]

    def failed(self, image_id: ImageId, code: FailureCode, reason: str) -> Prediction:
        return Prediction.failed(
            image_id, code, reason, model=self.classifier.model, instance_id=self.instance_id
        )

    def store(self, item: Prediction | Outcome) -> Outcome:
        """Writes a prediction to the output bucket. Raises CloudError when S3 fails."""
        if isinstance(item, Outcome):
            return item
        first = self.outputs.put_prediction(item)
        metrics.IMAGES.labels(item.status if first else "answered_already").inc()
        log.info(
            item.status if first else "was answered already",
            extra={
                "image_id": item.image_id,
                "instance_id": self.instance_id,
                "label": item.label,
                "error": item.error and item.error.code,
                "timings": item.timings,
            },
        )
        return Outcome(done=True, answered=first)
