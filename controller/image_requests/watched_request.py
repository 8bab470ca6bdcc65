"""A request whose answers are followed in this process, and who waits for their next change."""

import time
from collections.abc import Iterable, Mapping
from threading import Condition, Event

from cloud.image_id import parse
from cloud.prediction import Prediction
from controller.image_requests.results import ImageResult, RequestResult, image_result


class WatchedRequest:
    """Its images, and the answers that are known so far."""

    def __init__(
        self,
        request_id: str,
        image_ids: Iterable[str],
        copies: Mapping[str, str] | None = None,
        *,
        sent_before: bool = False,
    ) -> None:
        self.request_id = request_id
        self.copies = copies or {}
        """Image-id -> image-id of the one with the same bytes whose answer it gets."""
        self.sent_before = sent_before
        """Whether some of it is sent again, so that its id tells nothing of when."""
        self.image_ids = sorted(image_ids, key=lambda image_id: parse(image_id).number)
        self.sent_at = time.monotonic()
        self.finished = Event()
        """Set when all images are answered, or it is followed no longer."""
        self.predictions: Mapping[str, Prediction] = {}
        self._images = {image_id: image_result(image_id, None) for image_id in self.image_ids}
        self._changed = Condition()

    @property
    def unanswered(self) -> int:
        return len(self.image_ids) - len(self.predictions)

    @property
    def in_queue(self) -> list[str]:
        """Those that a worker must answer."""
        return [i for i in self.image_ids if i not in self.predictions and i not in self.copies]

    @property
    def seconds(self) -> float:
        """Since its images were sent, or were first followed here."""
        return time.monotonic() - self.sent_at

    def result(self) -> RequestResult:
        return RequestResult(request_id=self.request_id, images=self.images())

    def images(self) -> list[ImageResult]:
        """In upload order. One that is the same object as before has not changed."""
        return list(self._images.values())

    def know(self, predictions: Mapping[str, Prediction]) -> None:
        """These are all the answers now."""
        with self._changed:
            for image_id in self.image_ids:
                if predictions.get(image_id) is not self.predictions.get(image_id):
                    self._images[image_id] = image_result(image_id, predictions.get(image_id))
            self.predictions = {i: p for i, p in predictions.items() if i in self._images}
            self._changed.notify_all()

    def learn(self, found: Mapping[str, Prediction]) -> list[Prediction]:
        """These are answers, too. Returns those that nobody knew."""
        with self._changed:
            new = {i: p for i, p in found.items() if i in self._images and i not in self.predictions}
            if new:
                self.know({**self.predictions, **new})
        return list(new.values())

    def end(self) -> None:
        """It is followed no longer."""
        self.finished.set()
        with self._changed:
            self._changed.notify_all()

    def wait_for_change(self, seen: Mapping[str, Prediction], seconds: float) -> None:
        """Until `predictions` is no longer what was `seen`, or it has finished; at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.predictions is not seen or self.finished.is_set(), seconds)
