"""Lists the images of a batch into manifests, and sends their slices.

A manifest is written before its slices are sent, and `listed.json` after all of them. When the process dies,
another one goes on after the last key of the last manifest. The slices of the last manifests may not have
been sent by then, so they are sent again. To send a slice twice does no harm. Two listers of the same batch
write the same manifest, and S3 refuses the second one, which stops.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from cloud.batches.batch import MOST_IMAGES, Batch, ListedImage
from cloud.batches.source import pages
from cloud.batches.store import BatchStore
from cloud.clients import S3Client
from cloud.errors import CloudError
from cloud.request_queue import RequestQueue
from controller.batches.listing import Listing, Stopped

log = logging.getLogger(__name__)

T = TypeVar("T")


SENTENCES = {
    "NoSuchBucket": "There is no bucket {bucket}.",
    "AccessDenied": "The controller may not list {source}: its role needs s3:ListBucket on this bucket."
    " If callers have to pay for it, say requester_pays.",
    "AllAccessDisabled": "AWS has disabled all access to the bucket {bucket}.",
    "InvalidBucketName": "{bucket} is no name of a bucket.",
    "PermanentRedirect": "The bucket {bucket} is in another region than the controller.",
}


class Unreadable(Exception):
    """The source cannot be listed, and will not be. The message says why, for people."""


class Lister:
    def __init__(
        self,
        s3: S3Client,
        store: BatchStore,
        queue: RequestQueue,
        wake_autoscaler: Callable[[], None] = lambda: None,
    ) -> None:
        self.s3, self.store, self.queue = s3, store, queue
        self.wake_autoscaler = wake_autoscaler

    def pages(self, batch: Batch) -> Iterator[int]:
        """Lists the batch to its end, after what is listed already: one page of its source at each step.

        Yields how many manifests the batch has by then.

        Stops when another process lists it too, or when it is cancelled. Raises CloudError when AWS fails in
        a way that may pass; the batch must then be listed again.
        """
        listing = Listing(self.store, self.queue, batch, self.wake_autoscaler)
        try:
            listing.resume()
            if not listing.at_end:
                for page in readable(batch, pages(self.s3, batch, listing.last_key)):
                    list_page(batch, page, listing)
                    if listing.truncated:
                        break
                    yield listing.manifests
            listing.finish()
        except Stopped as reason:
            log.info("%s", reason, extra={"batch_id": batch.batch_id})
        except Unreadable as reason:
            log.warning("%s", reason.__cause__, extra={"batch_id": batch.batch_id})
            listing.finish(str(reason))


def list_page(batch: Batch, page: Iterable[ListedImage], listing: Listing) -> None:
    """Adds the images of a page to the listing, and notes what else there is."""
    listing.note_life()
    for found in page:
        if not is_image(batch, found.key) or is_folder(found):
            listing.others += 1
        elif listing.images >= min(batch.limit or MOST_IMAGES, MOST_IMAGES):
            listing.truncated = True
            return
        else:
            listing.add(found)


def readable(batch: Batch, found: Iterator[T]) -> Iterator[T]:
    """Yields the pages of a source.

    Raises Unreadable when AWS says that it cannot be listed, and CloudError when another try may succeed.
    """
    try:
        yield from found
    except CloudError as error:
        if why := SENTENCES.get(error.code):
            raise Unreadable(why.format(bucket=batch.bucket, source=batch.source)) from error
        raise


def is_image(batch: Batch, key: str) -> bool:
    """Returns whether the key is that of an image of the batch."""
    return not key.endswith("/") and (not batch.suffixes or key.lower().endswith(batch.suffixes))


def is_folder(found: ListedImage) -> bool:
    """Returns whether the object only stands for a folder, as Hadoop makes them."""
    return found.key.endswith("_$folder$") and not found.size
