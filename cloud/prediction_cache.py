import logging

from cloud.buckets import Bucket, JsonObjects
from cloud.errors import CloudError
from cloud.prediction import Prediction, Status

log = logging.getLogger(__name__)

PREFIX = "cache/"


class PredictionCache:
    """What a model answered to some bytes: `cache/<model version>/<SHA-256>` in the state bucket.

    It only ever saves work: what cannot be read or written is logged, and not missed.
    """

    def __init__(self, state: Bucket) -> None:
        self._predictions = JsonObjects(state, Prediction)

    def get(self, version: str, sha256: str) -> Prediction | None:
        try:
            prediction = self._predictions.get(f"{PREFIX}{version}/{sha256}")
        except CloudError as error:
            log.warning("a cached prediction is not used: %s", error)
            return None
        return prediction if prediction and prediction.label else None

    def put(self, version: str, sha256: str, prediction: Prediction) -> None:
        """A failure is not kept: the next try may do better."""
        if prediction.status is not Status.CLASSIFIED:
            return
        try:
            self._predictions.write(f"{PREFIX}{version}/{sha256}", prediction)
        except CloudError as error:
            log.warning("%s", error)
