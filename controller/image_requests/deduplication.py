"""Images that need no worker: an image of the same bytes is answered already, or will be."""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from cloud.buckets import OutputBucket
from cloud.clients import S3Client
from cloud.errors import CloudError
from cloud.model_version import model_version
from cloud.prediction import Prediction
from cloud.prediction_cache import PredictionCache
from cloud.settings import WorkerSettings
from controller.image_requests.upload import Upload
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)


class Deduplication:
    def __init__(
        self,
        settings: WorkerSettings,
        s3: S3Client,
        cache: PredictionCache,
        outputs: OutputBucket,
        pool: Executor,
    ) -> None:
        self.settings, self.s3, self.cache = settings, s3, cache
        self.outputs, self.pool = outputs, pool
        self.on = settings.answer_cache == "on"
        self._problem = ""

    def version(self) -> str | None:
        """Of the model that would answer now. None when that is not certain: then nothing is known."""
        if not self.on:
            return None
        try:
            return model_version(self.settings, self.s3)
        except CloudError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("no answer comes from the cache, since the model's version is unknown: %s", error)
            return None

    def get(self, version: str | None, upload: Upload) -> Prediction | None:
        """The answer to this image, if its bytes were classified before."""
        found = self.cache.get(version, upload.sha256) if version else None
        return found.of(upload.image_id) if found else None

    def copies(self, uploads: Sequence[Upload]) -> dict[str, str]:
        """Image-id -> image-id of the first image in `uploads` with the same bytes."""
        firsts: dict[str, str] = {}
        found = {
            upload.image_id: firsts.setdefault(upload.sha256, upload.image_id)
            for upload in uploads
            if self.on and not upload.refusal
        }
        return {image_id: first for image_id, first in found.items() if image_id != first}

    def answer_copies(self, watched: WatchedRequest) -> list[Prediction]:
        """Those that can be answered now, and are. One that has another answer already, being cancelled,
        gets that with the next poll."""
        made = [
            watched.predictions[first].of(image_id)
            for image_id, first in watched.copies.items()
            if first in watched.predictions and image_id not in watched.predictions
        ]
        put = self.pool.map(self.outputs.put_prediction, made)
        return watched.learn({p.image_id: p for p, first in zip(made, put, strict=True) if first})
