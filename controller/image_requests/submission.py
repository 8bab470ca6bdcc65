"""Submits a request: uploads its images, then sends their messages."""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError
from cloud.prediction import Prediction
from cloud.request_queue import RequestQueue
from controller.image_requests.deduplication import Deduplication
from controller.image_requests.idempotency import Claim
from controller.image_requests.metrics import UPLOAD_SECONDS
from controller.image_requests.open_requests import OpenRequests
from controller.image_requests.polling import Polling, note_answer
from controller.image_requests.upload import Upload
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)


class Submissions:
    def __init__(
        self,
        inputs: InputBucket,
        outputs: OutputBucket,
        queue: RequestQueue,
        open_requests: OpenRequests,
        deduplication: Deduplication,
        polling: Polling,
        pool: Executor,
    ) -> None:
        self.inputs, self.outputs, self.queue = inputs, outputs, queue
        self.open_requests, self.deduplication = open_requests, deduplication
        self.polling, self.pool = polling, pool

    @UPLOAD_SECONDS.time()
    def submit(
        self, request_id: str, uploads: Sequence[Upload], claim: Claim | None = None
    ) -> WatchedRequest:
        """Uploads the images before it sends their messages, so that workers always find the image.

        Raises CloudError when AWS fails; the request is then abandoned. With a `claim`, raises ClaimLost when
        another POST with the same key was faster. A request with a `claim` is not abandoned if only its
        messages could not be sent: recovery sends them, and the next POST with the key gets the answer.
        """
        copies = self.deduplication.copies(uploads)
        try:
            self.open_requests.open(request_id, len(uploads), copies)
            version = self.deduplication.version()
            versions = [None if upload.image_id in copies else version for upload in uploads]
            stored = self.pool.map(self._store, uploads, versions)
            watched = WatchedRequest(request_id, [upload.image_id for upload in uploads], copies)
            watched.know({prediction.image_id: prediction for prediction in stored if prediction})
            self.deduplication.answer_copies(watched)
            if claim:
                claim.accept()
        except CloudError:
            if not claim or claim.release():
                self._abandon(request_id)
            raise
        try:
            self.queue.send(watched.in_queue)
        except CloudError:
            # With a claim, another POST may know the request-id already. Recovery then sends the messages.
            if not claim:
                self._abandon(request_id)
            raise
        for prediction in watched.predictions.values():
            note_answer(prediction, "cached" if prediction.cached else "refused")
        for image_id in watched.in_queue:
            log.info("queued", extra={"image_id": image_id})
        self.polling.watch(watched)
        return watched

    def _store(self, upload: Upload, version: str | None) -> Prediction | None:
        """Uploads the image, and writes its prediction if it is known already.

        Returns that prediction, or None. The content of a file that was refused is not stored.
        """
        if upload.refusal:
            refused = Prediction.failed(upload.image_id, upload.refusal.code, upload.refusal.message)
            self.outputs.put_prediction(refused)
            self.inputs.put_placeholder(upload.image_id)
            return refused
        prediction = self.deduplication.get(version, upload)
        upload.stream.seek(0)
        self.inputs.put_image(upload.image_id, upload.stream, upload.content_type)
        log.info("uploaded", extra={"image_id": upload.image_id, "content_type": upload.content_type})
        if prediction:
            self.outputs.put_prediction(prediction)
        return prediction

    def _abandon(self, request_id: str) -> None:
        """Closes a request whose id was never sent to a client, so that nothing waits for its predictions."""
        try:
            self.open_requests.close(request_id)
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": request_id})
