"""Finds the images that have predictions, with one listing for all requests that wait in this process.

While a single image waits, its prediction is read instead, which costs a twelfth of a listing.
"""

import logging
import time
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from cloud.buckets import OutputBucket
from cloud.errors import CloudError
from cloud.image_id import ImageId, shard_and_time
from cloud.prediction import Prediction
from controller.image_requests.pace import Pace

log = logging.getLogger(__name__)

LONG_SECONDS = 30  # a request that has waited for so long may be listed alone
NEEDLESS = 1000  # the images of requests that no longer wait which cost as much as to list a request alone


class Followed:
    """A request whose predictions the listing finds."""

    def __init__(self, request_id: str, image_ids: Sequence[ImageId]) -> None:
        self.request_id = request_id
        self.missing = set(image_ids)
        self.sent_at = time.monotonic()
        self.found: set[ImageId] = set()
        """What was found, including images of the request that were answered without a worker."""
        self.read: dict[ImageId, Prediction] = {}
        """The predictions that were read and not listed."""
        self.new: SimpleQueue[list[ImageId] | None] = SimpleQueue()
        """What each listing has found, or None when the listing leaves the request out from now on."""

    def wait(self, seconds: float) -> list[ImageId] | None:
        """Waits for new predictions for at most `seconds`. Returns their image-ids.

        Returns None when the request must be listed alone from now on.
        """
        try:
            return self.new.get(timeout=max(0.0, seconds))
        except Empty:
            return []


class PredictionListing:
    """Lists the output bucket in a thread as long as requests wait, and hands out what it finds.

    The keys of the requests of this process begin with its shard and are in the order of time, so those since
    the oldest one that waits are adjacent. Requests that wait much longer than the others make all listings
    long. They are left out if that takes fewer calls, although each of them is then listed alone.
    """

    def __init__(self, outputs: OutputBucket, shard: str) -> None:
        self.outputs, self.shard = outputs, shard
        self.pace = Pace()
        self._followed: dict[str, Followed] = {}
        self._changed = Condition()
        self._runs = False

    @contextmanager
    def follow(self, request_id: str, image_ids: Sequence[ImageId]) -> Iterator[Followed]:
        """Looks for predictions for these images of the request inside the block."""
        followed = Followed(request_id, image_ids)
        with self._changed:
            self._followed[request_id] = followed
            if not self._runs:
                self._start(followed)
            self._changed.notify_all()
        try:
            yield followed
        finally:
            with self._changed:
                self._followed.pop(request_id, None)
                self._changed.notify_all()

    def _start(self, followed: Followed) -> None:
        try:
            Thread(target=self._run, name="list-predictions", daemon=True).start()
            self._runs = True
        except RuntimeError as error:  # there are too many threads
            log.error("%s", error, extra={"request_id": followed.request_id})
            followed.new.put(None)

    def _run(self) -> None:
        while followed := self._next():
            try:
                found = self._look(followed)
            except CloudError as error:
                log.warning("%s", error)
                found = 0
            except Exception:
                log.exception("the predictions could not be listed")
                found = 0
            self.pace.note_listing(found)

    def _next(self) -> list[Followed]:
        """Waits until the next listing is due. Returns the requests that wait then, the oldest first.

        Returns an empty list when none waits any more.
        """
        with self._changed:
            while self._followed:
                waiting = list(self._followed.values())
                newest = max(one.sent_at for one in waiting)
                pause = self.pace.pause(sum(len(one.missing) for one in waiting), newest)
                if pause <= 0:
                    return sorted(waiting, key=lambda one: one.request_id)
                self._changed.wait(pause)
            self._runs = False
            return []

    def _look(self, waiting: list[Followed]) -> int:
        """Lists or reads once. Returns the number of new predictions."""
        missing = [one for one in waiting if one.missing]
        if len(missing) == 1 and len(missing[0].missing) == 1:
            return self._read(missing[0])
        return self._list(waiting)

    def _read(self, one: Followed) -> int:
        (image_id,) = one.missing
        prediction = self.outputs.get_prediction(image_id)
        if prediction is None:
            return 0
        one.read[image_id] = prediction
        self._hand_out(one, [image_id], alone=True)
        return 1

    def _hand_out(self, one: Followed, new: list[ImageId], alone: bool) -> None:
        one.found.update(new)
        one.missing.difference_update(new)
        one.new.put(new)
        self.pace.note_answer(time.monotonic() - one.sent_at, alone)

    def _list(self, waiting: list[Followed]) -> int:
        by_request: dict[str, list[ImageId]] = {one.request_id: [] for one in waiting}
        needless: list[str] = []
        for image_id in self.outputs.answered(self.shard, after=shard_and_time(waiting[0].request_id)):
            if image_id.request_id in by_request:
                by_request[image_id.request_id].append(image_id)
            else:
                needless.append(image_id.request_id)
        count = 0
        for one in waiting:
            new = [image_id for image_id in by_request[one.request_id] if image_id not in one.found]
            if new:
                self._hand_out(one, new, alone=len(waiting) == 1)
                count += len(new)
        self._leave_out(waiting[: cheapest_cut(waiting, needless)])
        return count

    def wake(self, request_id: str) -> None:
        """Ends the current wait for new predictions for the request."""
        with self._changed:
            if followed := self._followed.get(request_id):
                followed.new.put([])

    def _leave_out(self, slow: list[Followed]) -> None:
        with self._changed:
            for one in slow:
                self._followed.pop(one.request_id, None)
        for one in slow:
            one.new.put(None)


def cheapest_cut(waiting: list[Followed], needless: list[str]) -> int:
    """Returns how many of the oldest requests should be left out, so that the fewest calls are made.

    `waiting` are the requests that wait, the oldest first. `needless` has the request-id of each listed image
    whose request no longer waits, in the same order.
    """
    cut, most_saved = 0, 0
    for count, one in enumerate(waiting, start=1):
        if time.monotonic() - one.sent_at <= LONG_SECONDS:
            break
        passed_over = bisect(needless, waiting[count].request_id) if count < len(waiting) else len(needless)
        if (saved := passed_over - count * NEEDLESS) > most_saved:
            cut, most_saved = count, saved
    return cut
