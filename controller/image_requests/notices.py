"""Tells an SNS topic what is complete: at least once, whichever process dies, and after the answer.

What must be told is an object in the state bucket, `notices/<id>-<random>`, until SNS has taken it. It is
written before the marker goes that says that a request waits, or that a round of a batch is open. Threads of
the same process publish it at once. What they cannot publish, or do not live to publish, any process finds
when it looks for what is left.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import Full, Queue
from threading import Event

from pydantic import BaseModel

from cloud.buckets import Bucket, JsonObjects
from cloud.clock import now
from cloud.errors import CloudError
from cloud.notices import Notice, Topic
from cloud.prediction import Status
from controller.image_requests.journal import Marker
from controller.image_requests.results import RequestResult
from controller.image_requests.stored_requests import StoredRequests

log = logging.getLogger(__name__)

PREFIX = "notices/"
MOST_QUEUED = 1000  # what is beyond is found when the process looks for what is left
LEFT_AFTER = timedelta(seconds=60)  # until then, the process that has written it may be about to publish it
RETRY_SECONDS = 60.0  # between two looks while something is left
IDLE_SECONDS = 900.0  # and otherwise


class Untold(BaseModel, frozen=True):
    """What must be told: a notice, or what became of the requests of a process that has died."""

    notice: Notice | None = None
    """None in place of the latter. Their image-ids begin with `prefix` and sort after `after`."""
    prefix: str = ""
    after: str = ""


class Notices:
    """Without a topic, nothing is noted or told."""

    def __init__(
        self,
        state: Bucket,
        stored: StoredRequests,
        topic: Topic,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.stored, self.topic, self.clock = state, stored, topic, clock
        self._objects = JsonObjects(state, Untold)
        self._queue: Queue[tuple[str, Untold]] = Queue(MOST_QUEUED)
        self._look_at = float("-inf")

    @property
    def on(self) -> bool:
        return bool(self.topic.arn)

    def tell(self, notice: Notice) -> None:
        """Notes that a notice is to be published. Raises CloudError when S3 fails; nothing is noted then."""
        if self.on:
            self._note(notice.id, Untold(notice=notice))

    def take_over(self, marker: Marker) -> None:
        """Notes that it is to be told what became of the requests of a marker, whose process has died.

        Some of them may have been told already. Raises CloudError when S3 fails.
        """
        if self.on:
            self._note(marker.name, Untold(prefix=marker.prefix, after=marker.after))

    def publish(self) -> None:
        """Publishes whatever is noted, for ever."""
        while True:
            self.publish_next()

    def publish_next(self) -> None:
        """Waits until something is noted, and publishes it. If that fails, a later look does it."""
        key, untold = self._queue.get()
        with self._tried_again():
            self._publish(key, self._notices(untold))

    def run(self, stop: Event) -> None:
        """Looks from time to time for what is left, until `stop` is set."""
        while not stop.is_set():
            if self.clock() >= self._look_at:
                with self._tried_again():
                    self.look()
            stop.wait(RETRY_SECONDS)

    def look(self) -> None:
        """Publishes what was noted a while ago and is still there.

        Raises CloudError when the bucket cannot be listed, or at the first notice that SNS does not take.
        """
        self._look_at = self.clock() + IDLE_SECONDS
        for key, noted_at in self.state.listing(PREFIX):
            if now() - noted_at < LEFT_AFTER:
                self._look_soon()
                continue
            notices = None
            with self._tried_again():  # what cannot be read keeps nothing else from being published
                if untold := self._objects.get(key):  # else another process has just published it
                    notices = list(self._notices(untold))
            if notices is not None:
                self._publish(key, notices)

    @contextmanager
    def _tried_again(self) -> Iterator[None]:
        """Logs what fails in the block, and has it looked for soon."""
        try:
            yield
        except CloudError as error:
            log.warning("%s; it is tried again", error)
            self._look_soon()
        except Exception:
            log.exception("notices could not be published")
            self._look_soon()

    def _look_soon(self) -> None:
        self._look_at = float("-inf")

    def _note(self, name: str, untold: Untold) -> None:
        key = f"{PREFIX}{name}-{secrets.token_hex(4)}"
        self._objects.write(key, untold)
        try:
            self._queue.put_nowait((key, untold))
        except Full:
            self._look_soon()

    def _publish(self, key: str, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.topic.publish(notice)
            log.info("told", extra={"kind": notice.kind, "id": notice.id, "status": notice.status})
        self.state.delete(key)

    def _notices(self, untold: Untold) -> Iterator[Notice]:
        """Yields what is to be told. A request that waits again is told at its end."""
        if untold.notice:
            yield untold.notice
            return
        answered = self.stored.outputs.answered(untold.prefix, untold.after)
        for request_id in sorted({image_id.request_id for image_id in answered}):
            found = self.stored.load(request_id)
            if found and not found.unanswered:
                yield notice_of(found.result())


def notice_of(result: RequestResult) -> Notice:
    """Returns the notice that a request is complete."""
    counts = {status.value: result.counts[status] for status in (Status.CLASSIFIED, Status.FAILED)}
    return Notice(
        kind="request",
        id=result.request_id,
        path=f"/requests/{result.request_id}",
        status="failed" if counts[Status.FAILED] else "classified",
        counts=counts,
    )
