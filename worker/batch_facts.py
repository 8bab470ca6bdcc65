"""What a worker must know of a batch to work on a slice of it."""

from functools import lru_cache

from cloud.batches.batch import Batch, Manifest
from cloud.batches.slice import Slice
from cloud.batches.store import BatchStore

BATCHES, MANIFESTS = 16, 4  # how many are remembered; they never change


class Unanswerable(Exception):
    """Nobody needs the rows of this slice, or nobody can make them."""


class BatchFacts:
    """Reads what is stored about batches, and remembers the last of it. Only one thread may use it."""

    def __init__(self, store: BatchStore) -> None:
        self.store = store
        self._remembered_batch = lru_cache(BATCHES)(self._batch)
        self._remembered_manifest = lru_cache(MANIFESTS)(self._manifest)

    def of(self, part: Slice) -> tuple[Batch, Manifest]:
        """Returns the batch of a slice, and the manifest with its images.

        Raises Unanswerable when the batch was cancelled, or is unknown because it has expired, and CloudError
        when S3 fails.
        """
        if (why := self.store.cancelled(part.batch_id)) is not None:
            raise Unanswerable(f"the batch {part.batch_id} was cancelled: {why}")
        batch = self._remembered_batch(part.batch_id)
        manifest = self._remembered_manifest(part.batch_id, part.manifest)
        if part.positions[-1] >= len(manifest.images):
            raise Unanswerable(
                f"manifest {part.manifest} of the batch {part.batch_id} has no image {part.positions[-1]}"
            )
        return batch, manifest

    def _batch(self, batch_id: str) -> Batch:
        if (found := self.store.get(batch_id)) is None:
            raise Unanswerable(f"there is no batch {batch_id}")
        return found

    def _manifest(self, batch_id: str, number: int) -> Manifest:
        if (found := self.store.manifest(batch_id, number)) is None:
            raise Unanswerable(f"the batch {batch_id} has no manifest {number}")
        return found
