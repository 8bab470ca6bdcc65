"""Caches predictions by the content of the image."""

import logging

from cloud.buckets import Bucket, JsonObjects
from cloud.errors import CloudError
from cloud.prediction import Prediction, Status

log = logging.getLogger(__name__)

PREFIX = "cache/"


class PredictionCache:
    """The predictions that a model has made for certain bytes, so that it need not make them again.

    They are in the state bucket, under the keys `cache/<model version>/<SHA-256>`. When S3 fails, the cache
    does without the prediction and logs a warning.
    """

    def __init__(self, state: Bucket) -> None:
        self._predictions = JsonObjects(state, Prediction)

    def get(self, version: str, sha256: str) -> Prediction | None:
        """Returns the prediction, or None when there is none or it cannot be read."""
        try:
            prediction = self._predictions.get(f"{PREFIX}{version}/{sha256}")
        except CloudError as error:
            log.warning("a cached prediction is not used: %s", error)
            return None
        return prediction if prediction and prediction.label else None

    def put(self, version: str, sha256: str, prediction: Prediction) -> None:
        """Stores the prediction, unless it is a failure: the next try may succeed."""
        if prediction.status is not Status.CLASSIFIED:
            return
        try:
            self._predictions.write(f"{PREFIX}{version}/{sha256}", prediction)
        except CloudError as error:
            log.warning("%s", error)
