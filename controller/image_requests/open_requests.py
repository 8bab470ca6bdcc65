"""Which requests wait for answers: a small object for each, `open/<request-id>`, in the state bucket.

Written before the first image is uploaded and deleted after the last answer, it lets every process
on every host see who waits; one that was left by a process that died is settled by the next look.
"""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel

from cloud.buckets import Bucket, InputBucket, JsonObjects, OutputBucket
from cloud.clock import now

PREFIX = "open/"
UPLOAD_SECONDS = 300  # an upload that is not complete after so long was left by a process that died


class OpenRequest(BaseModel):
    request_id: str
    images: int
    """How many images the request has, also those that were refused at once."""
    since: datetime
    copies: dict[str, str] = {}
    """Image-id -> image-id of the one with the same bytes whose answer it gets."""

    @property
    def age(self) -> float:
        """Seconds."""
        return (now() - self.since).total_seconds()


class Progress(BaseModel):
    asked: set[str]
    answered: set[str]
    uploaded: bool

    @property
    def complete(self) -> bool:
        """Whether everything that was uploaded is answered, and nothing more will be uploaded."""
        return self.uploaded and self.asked <= self.answered

    @property
    def unanswered(self) -> list[str]:
        return sorted(self.asked - self.answered)


class OpenRequests:
    def __init__(self, state: Bucket, inputs: InputBucket, outputs: OutputBucket) -> None:
        self.state, self.inputs, self.outputs = state, inputs, outputs
        self._requests = JsonObjects(state, OpenRequest)

    def open(self, request_id: str, images: int, copies: Mapping[str, str] = {}, **condition: str) -> None:
        """Conflict when a `condition` (IfNoneMatch) does not hold."""
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
