"""Keeps track of the requests that wait for predictions, in objects `open/<request-id>` in the state bucket.

The object is written before the first image is uploaded and deleted after the last prediction. It lets every
process on every host see which requests wait. If a process dies, the autoscaler's next run recovers the
requests that it left open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from cloud.buckets import Bucket, InputBucket, JsonObjects, OutputBucket
from cloud.clock import now
from cloud.image_id import ImageId

PREFIX = "open/"
UPLOAD_SECONDS = 300  # if an upload takes longer, its process is presumed dead


class OpenRequest(BaseModel):
    request_id: str
    images: int
    """The number of images in the request, including those that were refused during the upload."""
    since: datetime
    """When this object was written."""
    copies: dict[ImageId, ImageId] = {}
    """Maps the image-id of a duplicate to that of the image with the same bytes whose prediction it gets."""

    @property
    def age(self) -> float:
        """Seconds since this object was written."""
        return (now() - self.since).total_seconds()


@dataclass
class Progress:
    asked: set[ImageId]
    """The image-ids in the input bucket."""
    answered: set[ImageId]
    """The image-ids in the output bucket."""
    uploaded: bool
    """Whether every image is uploaded, or the upload is presumed dead."""

    @property
    def complete(self) -> bool:
        """Whether every uploaded image has a prediction, and no more images will be uploaded."""
        return self.uploaded and self.asked <= self.answered

    @property
    def unanswered(self) -> list[ImageId]:
        return sorted(self.asked - self.answered)


class OpenRequests:
    def __init__(self, state: Bucket, inputs: InputBucket, outputs: OutputBucket) -> None:
        self.state, self.inputs, self.outputs = state, inputs, outputs
        self._requests = JsonObjects(state, OpenRequest)

    def open(
        self, request_id: str, images: int, copies: Mapping[ImageId, ImageId] = {}, **condition: str
    ) -> None:
        """Writes the object of a request. Raises Conflict when a `condition` (IfNoneMatch) does not hold."""
        request = OpenRequest(request_id=request_id, images=images, since=now(), copies=copies)
        self._requests.write(f"{PREFIX}{request_id}", request, **condition)

    def close(self, request_id: str) -> None:
        self.state.delete(f"{PREFIX}{request_id}")

    def ids(self) -> list[str]:
        return [key.removeprefix(PREFIX) for key in self.state.keys(PREFIX)]

    def get(self, request_id: str) -> OpenRequest | None:
        return self._requests.get(f"{PREFIX}{request_id}")

    def progress(self, request: OpenRequest) -> Progress:
        asked = set(self.inputs.image_ids(request.request_id))
        answered = set(self.outputs.answered(request.request_id))
        uploaded = len(asked | answered) >= request.images or request.age > UPLOAD_SECONDS
        return Progress(asked=asked, answered=answered, uploaded=uploaded)
