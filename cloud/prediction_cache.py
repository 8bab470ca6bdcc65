import logging

from pydantic import ValidationError

from cloud.buckets import Bucket
from cloud.errors import CloudError, NotFound
from cloud.prediction import Prediction, Status

log = logging.getLogger(__name__)

PREFIX = "cache/"


class PredictionCache:
    """What a model answered to some bytes: `cache/<model version>/<SHA-256>` in the state bucket.

    It only ever saves work: what cannot be read or written is logged, and not missed.
    """

    def __init__(self, state: Bucket) -> None:
        self.state = state

    def get(self, version: str, sha256: str) -> Prediction | None:
        try:
            body, _ = self.state.read(f"{PREFIX}{version}/{sha256}")
            prediction = Prediction.model_validate_json(body)
        except NotFound:
            return None
        except (CloudError, ValidationError) as error:
            log.warning("s3://%s/%s%s/%s is not used: %s", self.state.name, PREFIX, version, sha256, error)
            return None
        return prediction if prediction.status is Status.CLASSIFIED and prediction.label else None

    def put(self, version: str, sha256: str, prediction: Prediction) -> None:
        """A failure is not kept: the next try may do better."""
        if prediction.status is not Status.CLASSIFIED:
            return
        body = prediction.model_dump_json(exclude_none=True).encode()
        try:
            self.state.write(f"{PREFIX}{version}/{sha256}", body, ContentType="application/json")
        except CloudError as error:
            log.warning("%s", error)
