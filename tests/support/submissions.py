"""Requests of one process of the controller, and what they leave behind."""

from datetime import timedelta
from hashlib import sha256
from io import BytesIO

from werkzeug.datastructures import FileStorage

from cloud.buckets import OutputBucket
from cloud.clock import now
from cloud.image_id import ImageId
from cloud.prediction import Failure, Prediction
from cloud.request_queue import RequestQueue
from controller.image_requests.journal import Journal
from controller.image_requests.recovery import WATCH_FOR, Recovery
from controller.image_requests.upload import Upload
from controller.image_requests.watched_request import WatchedRequest
from controller.web.answers import RequestAnswer
from controller.web.services import Services


def uploads(request_id: str, *names: str, refused: tuple[str, ...] = ()) -> list[Upload]:
    failure = Failure(code="not_an_image", message="This is a text file.")
    return [
        Upload(
            ImageId.make(request_id, n, name),
            BytesIO(name.encode()),
            "image/png",
            failure if name in refused else None,
            sha256(name.encode()).hexdigest(),
        )
        for n, name in enumerate(names)
    ]


def submit(process: Services, *names: str, refused: tuple[str, ...] = ()):
    request_id = process.request_ids.new()
    return process.submissions.submit(request_id, uploads(request_id, *names, refused=refused))


def file(name: str | None, content: bytes, field: str = "image_file") -> FileStorage:
    return FileStorage(BytesIO(content), name, field, content_type="application/x-whatever")


def answer(
    request_id: str, image_ids: list[ImageId], predictions: dict[ImageId, Prediction]
) -> RequestAnswer:
    watched = WatchedRequest(request_id, image_ids)
    watched.know(predictions)
    result = watched.result()
    return RequestAnswer(request_id=result.request_id, images=result.images)


def bodies(queue):
    found = []
    while messages := queue.receive(10, 0):
        found += [m.body for m in messages]
    return sorted(found)


def recover(queue: RequestQueue, outputs: OutputBucket, journal: Journal) -> dict[str, int]:
    """Does what the autoscaler does about lost messages, some time after a process has died."""
    passed = [timedelta(hours=1)]
    recovery = Recovery(queue, outputs, journal, lambda: now() + passed[0])
    recovery.settle()
    passed[0] += WATCH_FOR
    return recovery.settle()
