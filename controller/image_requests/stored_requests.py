"""Reads requests from S3, so that any process can answer for them, even after a restart."""

from collections.abc import Iterable
from concurrent.futures import Executor

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import NotFound
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.image_requests.watched_request import WatchedRequest

FIRST_LOOK_SECONDS = 5.0  # a request that waits for so long may have been deleted


class StoredRequests:
    def __init__(self, inputs: InputBucket, outputs: OutputBucket, pool: Executor) -> None:
        self.inputs, self.outputs, self.pool = inputs, outputs, pool

    def load(self, request_id: str) -> WatchedRequest | None:
        """Returns None when the request is unknown. Raises CloudError when S3 cannot be read."""
        # List the inputs first, because a cancellation writes the prediction before it deletes the image.
        stored = self.inputs.image_ids(request_id)
        answered = self.outputs.answered(request_id)
        image_ids = {*stored, *answered}
        if not image_ids:
            return None
        found = WatchedRequest(request_id, image_ids)
        found.know(self.fetch(answered))
        return found

    def refresh(self, found: WatchedRequest) -> None:
        """Updates a request that was loaded before. Raises CloudError when S3 cannot be read."""
        known = found.predictions
        answered = self.outputs.answered(found.request_id)
        kept = {image_id: known[image_id] for image_id in answered if image_id in known}
        new = self.fetch(found.without_prediction(answered))
        if new or len(kept) < len(known):
            found.know(kept | new)

    def note_deletion(self, watched: WatchedRequest) -> None:
        """Notes whether nothing of a request is stored any more.

        Another process may delete it before its last predictions were found here. The longer it waits, the
        more seldom this looks, which usually takes one call. Raises CloudError when S3 cannot be read.
        """
        if watched.seconds < max(FIRST_LOOK_SECONDS, 2 * watched.looked_at):
            return
        watched.looked_at = watched.seconds
        waiting = next((i for i in watched.image_ids if i not in watched.predictions), None)
        if waiting is None:
            return
        try:
            self.inputs.etag(waiting)
        except NotFound:  # else it was cancelled
            watched.deleted = self.load(watched.request_id) is None

    def fetch(self, image_ids: Iterable[ImageId]) -> dict[ImageId, Prediction]:
        """Returns the predictions of those images that have one, by image-id."""
        found = self.pool.map(self.outputs.get_prediction, image_ids)
        return {prediction.image_id: prediction for prediction in found if prediction}
