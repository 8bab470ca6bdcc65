"""Submits a request: uploads its images, then sends their messages."""

import logging
from collections.abc import Sequence

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError
from cloud.prediction import Prediction
from controller.image_requests.deduplication import Deduplication
from controller.image_requests.fair_pool import FairPool, finish
from controller.image_requests.idempotency import Claim, ClaimLost
from controller.image_requests.journal import Journal
from controller.image_requests.metrics import UPLOAD_SECONDS
from controller.image_requests.outbox import Outbox
from controller.image_requests.polling import Polling, note_answer
from controller.image_requests.upload import Upload
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)


class Submissions:
    def __init__(
        self,
        inputs: InputBucket,
        outputs: OutputBucket,
        outbox: Outbox,
        journal: Journal,
        deduplication: Deduplication,
        polling: Polling,
        pool: FairPool,
    ) -> None:
        self.inputs, self.outputs, self.outbox = inputs, outputs, outbox
        self.journal, self.deduplication = journal, deduplication
        self.polling, self.pool = polling, pool

    @UPLOAD_SECONDS.time()
    def submit(
        self, request_id: str, uploads: Sequence[Upload], claim: Claim | None = None
    ) -> WatchedRequest:
        """Uploads the images before it sends their messages, so that workers always find the image.

        Afterwards, the files are closed. Raises CloudError when AWS fails. The request is then abandoned,
        unless all images were uploaded: recovery then has them answered. With a `claim`, raises ClaimLost
        when another POST with the same key was faster. If only its messages could not be sent, the next POST
        with the key gets the answer.
        """
        copies = self.deduplication.copies(uploads)
        watched = WatchedRequest(
            request_id,
            [upload.image_id for upload in uploads],
            copies,
            {upload.image_id: upload.sha256 for upload in uploads},
            sent_before=claim is not None and claim.taken_over,
        )
        with self.outbox.upload():
            try:
                known = self._upload(watched, uploads)
            except Exception:
                self._abandon(request_id, uploads, claim)
                raise
            watched.note_first_message()
            try:
                self._accept(watched, known, claim)
                self.outbox.send(watched.in_queue)
            except Exception:  # there are answers by now, or messages
                self.journal.leave(request_id)
                raise
        for upload in uploads:
            upload.stream.close()
        for prediction in watched.predictions.values():
            note_answer(prediction, "cached" if prediction.cached else "refused")
        for image_id in watched.in_queue:
            log.info("queued", extra={"image_id": image_id})
        self.polling.watch(watched)
        return watched

    def _upload(self, watched: WatchedRequest, uploads: Sequence[Upload]) -> list[Prediction]:
        """Uploads the images, once their request is marked. Returns the predictions that are known already.

        Without the mark, nobody would find the images of a process that dies meanwhile.
        """
        note = self.journal.hold if watched.sent_before else self.journal.open
        note(watched.request_id)
        share = self.pool.share()
        steps = [share.submit(self._store, upload) for upload in uploads]
        try:
            known = self.deduplication.find([u for u in uploads if u.image_id not in watched.copies])
        finally:
            finish(steps)
        return known + [
            Prediction.failed(upload.image_id, upload.refusal.code, upload.refusal.message)
            for upload in uploads
            if upload.refusal
        ]

    def _accept(self, watched: WatchedRequest, known: list[Prediction], claim: Claim | None) -> None:
        """Writes the predictions that are known already, and notes that all images are uploaded."""
        try:
            # An earlier attempt of the same POST may have answered an image.
            stored = list(self.pool.map(self.outputs.put_or_get_prediction, known))
            watched.know({prediction.image_id: prediction for prediction in stored})
            self.deduplication.answer_copies(watched)
            if claim:
                claim.accept()
        except ClaimLost:
            raise
        except Exception:
            if claim:
                claim.release()
            raise

    def _store(self, upload: Upload) -> None:
        """Uploads the image. The content of a file that was refused is not stored."""
        if upload.refusal:
            self.inputs.put_placeholder(upload.image_id)
            return
        upload.stream.seek(0)
        self.inputs.put_image(upload.image_id, upload.stream, upload.content_type)
        log.info("uploaded", extra={"image_id": upload.image_id, "content_type": upload.content_type})

    def _abandon(self, request_id: str, uploads: Sequence[Upload], claim: Claim | None) -> None:
        """Deletes the uploads of a request whose id was never sent to a client, and closes it.

        If that fails, recovery has them answered, although nobody asks for them. It also does so if there is
        a `claim`, because another POST may use what is stored.
        """
        if claim:
            claim.release()
            self.journal.leave(request_id)
            return
        try:
            list(self.pool.map(self.inputs.delete, [upload.image_id for upload in uploads]))
            self.journal.close(request_id)
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": request_id})
            self.journal.leave(request_id)
