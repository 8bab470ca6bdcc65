"""Finds images that need no worker, because an image with the same bytes has or will have a prediction."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor

from cloud.buckets import OutputBucket
from cloud.clients import S3Client
from cloud.errors import CloudError, NotFound
from cloud.image_id import ImageId
from cloud.model_version import model_choice
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

    def choice(self) -> str | None:
        """Returns what stands for the model that would classify an image now.

        Returns None when deduplication is off or this cannot be determined. No cached prediction may be used
        then.
        """
        if not self.on:
            return None
        try:
            return model_choice(self.settings, self.s3)
        except CloudError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("no answer comes from the cache, since the model is not known: %s", error)
            return None

    def find(self, uploads: Sequence[Upload]) -> list[Prediction]:
        """Returns a prediction for each image whose bytes the present model has classified before.

        An image whose preview was deleted since is left out, so that a worker makes a new one.
        """
        if (choice := self.choice()) is None:
            return []
        self.cache.read(choice)
        cached = ((upload, self.cache.get(choice, upload.sha256)) for upload in uploads if not upload.refusal)
        found = [prediction.of(upload.image_id) for upload, prediction in cached if prediction]
        whole = self.pool.map(self._has_its_preview, found)
        return [prediction for prediction, has in zip(found, whole, strict=True) if has]

    def _has_its_preview(self, prediction: Prediction) -> bool:
        """Returns whether the preview of a cached prediction is still stored, or it never had one."""
        if prediction.preview_of is None:
            return True
        try:
            self.outputs.etag(prediction.preview_of)
        except NotFound:
            return False
        except CloudError as error:
            log.warning("%s", error)
        return True

    def learn(self, watched: WatchedRequest, predictions: Iterable[Prediction]) -> None:
        """Keeps new predictions, so that the next request with the same bytes gets them."""
        for prediction in predictions:
            sha256 = watched.sha256s.get(prediction.image_id)
            if self.on and sha256 and not prediction.cached:
                self.cache.put(sha256, prediction)

    def copies(self, uploads: Sequence[Upload]) -> dict[ImageId, ImageId]:
        """Returns the duplicates in `uploads`, as a map from image-id to image-id.

        Each duplicate is mapped to the first image with the same bytes.
        """
        firsts: dict[str, ImageId] = {}
        found = {
            upload.image_id: firsts.setdefault(upload.sha256, upload.image_id)
            for upload in uploads
            if self.on and not upload.refusal
        }
        return {image_id: first for image_id, first in found.items() if image_id != first}

    def answer_copies(self, watched: WatchedRequest) -> list[Prediction]:
        """Writes the predictions of the duplicates whose first image has one. Returns the new predictions.

        A duplicate that was cancelled keeps the prediction that it has; the next poll finds it.
        """
        made = [
            watched.predictions[first].of(image_id)
            for image_id, first in watched.copies.items()
            if first in watched.predictions and image_id not in watched.predictions
        ]
        put = self.pool.map(self.outputs.put_prediction, made)
        return watched.learn({p.image_id: p for p, first in zip(made, put, strict=True) if first})
