"""A bucket of a user, batches of what lies in it, and what became of them."""

from collections.abc import Mapping, Sequence

from cloud.batches.batch import Batch, ListedImage, Manifest, Row
from cloud.batches.slice import Slice
from cloud.batches.store import BatchStore
from cloud.clients import S3Client
from cloud.image_id import new_request_id
from cloud.request_queue import RequestQueue

BUCKET = "lab"


class Lab:
    """Its bucket, with the state of batches in `store` and their slices in `queue`."""

    def __init__(self, s3: S3Client, store: BatchStore, queue: RequestQueue) -> None:
        self.s3, self.store, self.queue = s3, store, queue
        s3.create_bucket(Bucket=BUCKET)

    def put(self, key: str, body: bytes) -> ListedImage:
        etag = self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"]
        return ListedImage(key=key, etag=etag, size=len(body))

    def ask(self, *bodies: bytes, slices: Sequence[Sequence[int]] = (), **more: object) -> Batch:
        """Puts the images into the bucket, and sends one slice of all of them, or those given."""
        return self.ask_listed([self.put(f"{n:03}.png", b) for n, b in enumerate(bodies)], slices, **more)

    def ask_listed(
        self, images: Sequence[ListedImage], slices: Sequence[Sequence[int]] = (), **more: object
    ) -> Batch:
        """Sends slices of images that are listed already. `more` are fields of the batch and the round."""
        round = more.pop("round", 1)
        batch = Batch(batch_id=new_request_id(), source=f"s3://{BUCKET}/", **more)  # type: ignore[arg-type]
        self.store.put(batch)
        self.store.put_manifest(batch.batch_id, 0, Manifest(images=tuple(images)))
        for positions in slices or [range(len(images))]:
            part = Slice.of(batch.batch_id, 0, positions, round)  # type: ignore[arg-type]
            self.queue.send([part.model_dump_json()])
        return batch

    def rows(self, batch: Batch) -> list[Row]:
        """Returns all rows that were written, in the order of their positions."""
        found = [row for result in self.store.results(batch.batch_id) for row in self.store.rows(result)]
        return sorted(found, key=lambda row: row.position)

    def first_rows(self, batch: Batch) -> Mapping[str, Row]:
        """Returns the row of each key that was written first."""
        found: dict[str, Row] = {}
        for result in sorted(self.store.results(batch.batch_id), key=lambda one: one.written_at):  # type: ignore
            for row in self.store.rows(result):
                found.setdefault(row.key, row)
        return found
