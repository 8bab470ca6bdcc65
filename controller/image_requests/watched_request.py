"""A request whose predictions this process follows. Threads can wait for the next change."""

import time
from collections.abc import Iterable, Mapping
from threading import Condition, Event

from cloud.clock import now
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.image_requests.results import ImageResult, RequestResult, image_result


class WatchedRequest:
    """The images of a request, and their predictions as far as they are known."""

    def __init__(
        self,
        request_id: str,
        image_ids: Iterable[ImageId],
        copies: Mapping[ImageId, ImageId] | None = None,
        sha256s: Mapping[ImageId, str] | None = None,
        *,
        sent_before: bool = False,
    ) -> None:
        self.request_id = request_id
        self.copies = copies or {}
        """Maps the image-id of a duplicate to that of the image whose prediction it gets."""
        self.sha256s = sha256s or {}
        """The SHA-256 of each file as hex digits, if this process has received the files."""
        self.sent_before = sent_before
        """Whether images were sent again, or may have been. The time in the request-id is then not theirs."""
        self.image_ids = sorted(image_ids, key=lambda image_id: image_id.number)
        self.sent_at = time.monotonic()
        self.first_message_at = now()
        """When its first message was sent, by the clock of AWS, or when this object was made."""
        self.finished = Event()
        """Set when every image has a prediction, or when the request is no longer followed."""
        self.deleted = False
        """Whether it was deleted while it was followed, so that there will be no more predictions."""
        self.looked_at = 0.0
        """At how many `seconds` it was last looked whether it was deleted."""
        self.predictions: Mapping[ImageId, Prediction] = {}
        self._images = {image_id: image_result(image_id, None) for image_id in self.image_ids}
        self._changed = Condition()

    def note_first_message(self) -> None:
        """Must be called before the first message of the request is sent."""
        self.first_message_at = now()

    @property
    def unanswered(self) -> int:
        return len(self.image_ids) - len(self.predictions)

    @property
    def waits(self) -> bool:
        """Whether there may be more predictions."""
        return bool(self.unanswered) and not self.deleted

    @property
    def in_queue(self) -> list[ImageId]:
        """The image-ids that a worker must still classify."""
        return [i for i in self.image_ids if i not in self.predictions and i not in self.copies]

    @property
    def seconds(self) -> float:
        """Seconds since the images were sent, or since this process began to follow the request."""
        return time.monotonic() - self.sent_at

    def without_prediction(self, image_ids: Iterable[ImageId]) -> list[ImageId]:
        """Returns those that are images of the request whose predictions are not known yet."""
        return [i for i in image_ids if i in self._images and i not in self.predictions]

    def result(self) -> RequestResult:
        return RequestResult(request_id=self.request_id, images=self.images())

    def images(self) -> list[ImageResult]:
        """Returns the results in upload order. A result that has not changed remains the same object."""
        return list(self._images.values())

    def know(self, predictions: Mapping[ImageId, Prediction]) -> None:
        """Replaces the known predictions with `predictions`."""
        with self._changed:
            for image_id in self.image_ids:
                if predictions.get(image_id) is not self.predictions.get(image_id):
                    self._images[image_id] = image_result(image_id, predictions.get(image_id))
            self.predictions = {i: p for i, p in predictions.items() if i in self._images}
            self._changed.notify_all()

    def learn(self, found: Mapping[ImageId, Prediction]) -> list[Prediction]:
        """Adds predictions to the known ones. Returns those that are new."""
        with self._changed:
            new = {i: p for i, p in found.items() if i in self._images and i not in self.predictions}
            if new:
                self.know({**self.predictions, **new})
        return list(new.values())

    def end(self) -> None:
        """Sets `finished` and wakes all waiting threads. The request is no longer followed."""
        self.finished.set()
        with self._changed:
            self._changed.notify_all()

    def wait_for_change(self, seen: Mapping[ImageId, Prediction], seconds: float) -> None:
        """Waits until `predictions` is no longer `seen` or `finished` is set, for at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.predictions is not seen or self.finished.is_set(), seconds)
