"""Writes the images that are listed into manifests, and sends their slices."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud.batches.batch import Batch, Listed, ListedImage, Manifest
from cloud.batches.slice import MANIFEST_IMAGES
from cloud.batches.store import BatchStore
from cloud.request_queue import RequestQueue
from controller.batches.missing import Answered, all_of, missing
from controller.batches.slicing import cut, slice_size

SILENT_SECONDS = 20.0  # without a manifest, after which the listing says that it goes on
HELD_BACK = 10  # manifests whose slices wait until it is known whether the batch is large, or none comes


class Stopped(Exception):
    """The batch need not be listed any more. The message says why."""


@dataclass
class Listing:
    """How far the listing of a batch is."""

    store: BatchStore
    queue: RequestQueue
    batch: Batch
    wake_autoscaler: Callable[[], None]
    manifests: int = 0
    images: int = 0
    """Those in manifests, and those that wait for theirs."""
    bytes: int = 0
    others: int = 0
    truncated: bool = False
    last_key: str = ""
    _waiting: list[ListedImage] = field(default_factory=list)
    _others_noted: int = 0
    clock: Callable[[], float] = time.monotonic
    _spoke_at: float = 0.0
    """When S3 was last written to, by `clock`."""
    _unsent: list[tuple[int, int]] = field(default_factory=list)
    """The manifests whose slices are not sent, each with the number of its images."""

    def resume(self) -> None:
        """Goes on where another lister has stopped, after it has sent what that one may not have sent."""
        for number, _ in self.store.manifests(self.batch.batch_id):
            if number != self.manifests or not (found := self.store.manifest(self.batch.batch_id, number)):
                break
            self._note(found)
        unsure = range(max(0, self.manifests - HELD_BACK - 1), self.manifests)
        again = {number: all_of(number, self.images) for number in unsure}
        results = (one for n in unsure for one in self.store.results(self.batch.batch_id, n))
        size = slice_size(self.images)
        slices = missing(self.batch.batch_id, again, results, Answered(self.store), size)
        self.queue.send(part.model_dump_json() for part in slices)

    def __post_init__(self) -> None:
        self._spoke_at = self.clock()

    def note_life(self) -> None:
        """Tells other processes from time to time that this one lists, even if it finds no images.

        What was held back is then sent: there may be instances for it, which would have nothing to do until
        more is found. Raises Stopped when the batch is cancelled.
        """
        if self.clock() - self._spoke_at >= SILENT_SECONDS:
            self._stop_if_cancelled()
            self.store.touch(self.batch.batch_id)
            self._send()
            self._spoke_at = self.clock()

    def add(self, image: ListedImage) -> None:
        """Raises Stopped when the batch is cancelled, or when another process lists it too."""
        self._waiting.append(image)
        self.images += 1
        self.bytes += image.size
        if len(self._waiting) == MANIFEST_IMAGES:
            self._write()
            if len(self._unsent) == HELD_BACK or self.manifests > HELD_BACK:
                self._send()

    @property
    def at_end(self) -> bool:
        """Whether the last manifest is not full, which shows that its lister had found all images."""
        return self.images < MANIFEST_IMAGES * self.manifests

    def finish(self, failure: str = "") -> None:
        """Writes and sends the rest, and then what was found in all.

        After a failure, the images that are in no manifest yet are left out, so that a manifest that is not
        full shows that the listing came to its end.
        """
        if failure:
            self.images -= len(self._waiting)
            self.bytes -= sum(image.size for image in self._waiting)
        elif self._waiting:
            self._write()
        self._send()
        self.store.put_listed(
            self.batch.batch_id,
            Listed(
                images=self.images,
                manifests=self.manifests,
                bytes=self.bytes,
                other_objects=self.others,
                truncated=self.truncated,
                failure=failure,
            ),
        )

    def _note(self, manifest: Manifest) -> None:
        self.manifests += 1
        self.images += len(manifest.images)
        self.bytes += sum(image.size for image in manifest.images)
        self.others += manifest.others
        self._others_noted = self.others
        self.truncated = manifest.truncated
        self.last_key = manifest.images[-1].key

    def _stop_if_cancelled(self) -> None:
        if self.store.cancelled(self.batch.batch_id) is not None:
            raise Stopped("the batch is cancelled, so no more of it is listed")

    def _write(self) -> None:
        self._stop_if_cancelled()
        others = self.others - self._others_noted
        manifest = Manifest(images=tuple(self._waiting), others=others, truncated=self.truncated)
        if not self.store.put_manifest(self.batch.batch_id, self.manifests, manifest):
            raise Stopped("another process lists the batch")
        self._spoke_at = self.clock()
        self._unsent.append((self.manifests, len(self._waiting)))
        self.manifests += 1
        self._others_noted = self.others
        self.last_key = self._waiting[-1].key
        self._waiting = []

    def _send(self) -> None:
        size = slice_size(self.images)
        for number, count in self._unsent:
            slices = cut(self.batch.batch_id, number, range(count), size)
            self.queue.send(part.model_dump_json() for part in slices)
        if self._unsent:
            self.wake_autoscaler()
        self._unsent = []
