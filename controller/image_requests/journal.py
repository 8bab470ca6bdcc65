"""Notes which requests wait for predictions, so that they are answered even if their process dies.

An image waits if it is in the input bucket and not in the output bucket. Markers say where to look. A marker
is an object in the state bucket that is written before the first image is stored. Its content means nothing:

* `open/<shard><time>-<random>` means that requests of a process wait. Their request-ids begin with this
  shard, and were made at this time or later. It is deleted when none waits any more. Each has a name of its
  own, so that whoever deletes an old one cannot delete the one that replaces it.
* `open/<request-id>` means that this request waits, whatever its age. It is for requests that are sent again,
  that another POST has begun, or that have waited for too long.
"""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.errors import CloudError, Conflict
from cloud.image_id import ImageId, is_request_id, new_shard, shard_and_time, shard_of

log = logging.getLogger(__name__)

PREFIX = "open/"
RENEW_SECONDS = 20  # a process relies on its marker for this long, and then writes it again


@dataclass(frozen=True)
class Marker:
    name: str
    """`<shard><time>-<random>`, or a request-id."""
    written_at: datetime

    @property
    def key(self) -> str:
        return PREFIX + self.name

    @property
    def of_one_request(self) -> bool:
        return is_request_id(self.name)

    @property
    def prefix(self) -> str:
        """What the image-ids begin with."""
        return self.name if self.of_one_request else shard_of(self.name)

    @property
    def after(self) -> str:
        """What the image-ids sort after."""
        return "" if self.of_one_request else shard_and_time(self.name)


@dataclass(frozen=True)
class MarkedImages:
    """The images that a marker is about, as they are in the buckets."""

    waiting: dict[ImageId, datetime]
    """Those without a prediction, and since when they wait: when they were stored or sent again."""
    answered: dict[ImageId, datetime]
    """Those with a prediction, and when they were stored."""


class Journal:
    """The journal of one process, whose requests have one shard. It can read the markers of all processes."""

    def __init__(
        self,
        state: Bucket,
        inputs: InputBucket,
        outputs: OutputBucket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.inputs, self.outputs, self.clock = state, inputs, outputs, clock
        self.shard = new_shard()
        self._open: set[str] = set()
        self._marker = ""
        """The name of the marker of this process that is in the bucket, or "" if there is none."""
        self._written_at = 0.0
        self._kept = False
        """Whether the marker is left to recovery: this process does not wait for one of its requests."""
        self._left: set[str] = set()
        """Requests that no marker is about yet, and that are left to recovery with the next marker."""
        self._lock = Lock()

    def open(self, request_id: str) -> None:
        """Notes that a new request of this process waits. Must be called before an image is stored.

        Requests that come at the same time share one marker, so one that is not new must be held instead.
        Raises CloudError when S3 fails.
        """
        with self._lock:
            stays = self._marker and self.clock() - self._written_at < RENEW_SECONDS
            if not stays or request_id < shard_and_time(self._marker):
                self._write(min([request_id, *self._open]))
            self._open.add(request_id)

    def close(self, request_id: str) -> None:
        """Notes that a request of this process no longer waits. Raises CloudError when S3 fails."""
        with self._lock:
            if request_id not in self._open:
                self.release(request_id)
                return
            self._open.discard(request_id)
            if not self._open:
                # If this fails, S3 may have deleted it nevertheless.
                marker, self._marker = self._marker, ""
                if not self._kept:
                    self.state.delete(PREFIX + marker)

    def hold(self, request_id: str, **condition: str) -> None:
        """Writes a marker for one request. Raises Conflict when a `condition` does not hold."""
        self.state.write(PREFIX + request_id, secrets.token_bytes(8), **condition)

    def hold_again(self, request_id: str, after: timedelta) -> None:
        """Writes a marker for one request, unless there is one that is not older than `after`.

        Raises Conflict or NotFound when there is one, or when it is just being replaced or deleted.
        """
        try:
            self.hold(request_id, IfNoneMatch="*")
        except Conflict:
            _, etag, age = self.state.read_aged(PREFIX + request_id)
            if age <= after:
                raise
            self.hold(request_id, IfMatch=etag)

    def held_at(self, request_id: str) -> datetime | None:
        """Returns when the marker for this one request was written, or None if there is none.

        Raises CloudError when S3 fails.
        """
        return next((at for _, at in self.state.listing(PREFIX + request_id)), None)

    def release(self, request_id: str) -> None:
        """Deletes the marker of one request, if there is one. Raises CloudError when S3 fails."""
        self.state.delete(PREFIX + request_id)

    def leave(self, request_id: str) -> None:
        """Notes that a request still waits, but that this process no longer waits for it.

        If S3 takes no marker for it now, that of this process stays when no other request waits any more, and
        recovery deletes it.
        """
        try:
            self.hold(request_id)
        except CloudError as error:
            log.warning("%s; the marker of this process stays", error)
            self._leave_to_recovery(request_id)
            return
        with self._lock:
            mine = request_id in self._open
        if mine:
            try:
                self.close(request_id)
            except CloudError as error:
                log.warning("%s; a later run of the autoscaler deletes it", error)

    def _leave_to_recovery(self, request_id: str) -> None:
        with self._lock:
            self._open.discard(request_id)
            if self._marker and shard_and_time(self._marker) <= shard_and_time(request_id):
                self._kept = True
            else:
                self._left.add(request_id)
            if not self._open:
                self._marker = ""

    def markers(self) -> list[Marker]:
        """Returns the markers of all processes."""
        return [Marker(key.removeprefix(PREFIX), at) for key, at in self.state.listing(PREFIX)]

    def images(self, marker: Marker) -> MarkedImages:
        """Returns the images that a marker is about.

        An image that is being uploaded is among those that wait although it has no message yet.
        """
        # List the inputs first: between the two, a prediction may come, and a cancelled image may go.
        stored = self.inputs.stored(marker.prefix, marker.after)
        answered = set(self.outputs.answered(marker.prefix, marker.after))
        sent_at = marker.written_at if marker.of_one_request else datetime.min.replace(tzinfo=UTC)
        return MarkedImages(
            waiting={i: max(at, sent_at) for i, at in stored.items() if i not in answered},
            answered={i: at for i, at in stored.items() if i in answered},
        )

    def owns(self, marker: Marker) -> bool:
        """Returns whether it is the marker of this process."""
        with self._lock:
            return marker.name == self._marker

    def forget(self, marker: Marker) -> None:
        """Deletes a marker of which nothing waits, unless it is that of this process."""
        with self._lock:
            if marker.name != self._marker:
                self.state.delete(marker.key)

    def _write(self, oldest: str) -> None:
        """Writes the marker of this process. `oldest` is the oldest of its requests that wait."""
        before, kept = self._marker, self._kept
        self._marker = f"{shard_and_time(min([oldest, *self._left]))}-{secrets.token_hex(4)}"
        try:
            self.state.write(PREFIX + self._marker, b"")
        except CloudError:
            self._marker = before
            raise
        self._written_at = self.clock()
        self._kept = bool(self._left)
        self._left.clear()
        if before and not kept:
            try:
                self.state.delete(PREFIX + before)
            except CloudError as error:
                log.warning("%s; a later run of the autoscaler deletes it", error)
