"""Reads the images of a slice where they are: in a bucket of the user, who may have changed or closed it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from cloud.batches.batch import Batch, ListedImage
from cloud.buckets import Bucket
from cloud.clients import S3Client
from cloud.errors import CloudError, Conflict, NotFound
from cloud.failure_code import FailureCode
from cloud.prediction import Failure

MOST_BYTES = 100_000_000
"""The largest file that is read."""
ARCHIVED = "This image lies in an archive of S3 (Glacier). Restore it, and retry the batch."
EMPTY = "The object is empty. It is no picture."
TOO_LARGE = f"The file has over {MOST_BYTES // 1_000_000} MB. Make it smaller."
CHANGED = "This image has changed since the batch was listed. Retry the batch to classify it as it is now."
MISSING = "This image is no longer in the bucket."
DENIED = {"AccessDenied", "AllAccessDisabled", "403", "Forbidden"}


class TooLarge(Exception):
    """The file has more than MOST_BYTES."""


@dataclass(frozen=True)
class SliceSource:
    """The bucket of a batch, as it is read in one round."""

    bucket: Bucket
    round: int
    requester_pays: bool = False

    @classmethod
    def of(cls, s3: S3Client, batch: Batch, round: int) -> Self:
        return cls(Bucket(s3, batch.bucket), round, batch.requester_pays)

    def refusal(self, image: ListedImage) -> Failure | None:
        """Returns why the image cannot be classified, if its listing shows that, or None.

        A later round does not trust the listing: what was in an archive, for example, may be restored.
        """
        if self.round > 1:
            return None
        if image.archived:
            return Failure(code=FailureCode.ARCHIVED, message=ARCHIVED)
        if not image.size:
            return Failure(code=FailureCode.EMPTY_FILE, message=EMPTY)
        if image.size > MOST_BYTES:
            return Failure(code=FailureCode.TOO_LARGE, message=TOO_LARGE)
        return None

    def read(self, image: ListedImage, admit: Callable[[int], None]) -> bytes | Failure:
        """Returns the file, or why there will be none. In the first round, it must be as it was listed.

        `admit` is called with the number of bytes before they are read. Raises CloudError when S3 fails in a
        way that may pass.
        """

        def check(size: int) -> None:
            if size > MOST_BYTES:
                raise TooLarge
            admit(size)

        try:
            return self.bucket.read(image.key, check, **self._conditions(image))[0]
        except TooLarge:
            return Failure(code=FailureCode.TOO_LARGE, message=TOO_LARGE)
        except NotFound:
            return Failure(code=FailureCode.IMAGE_MISSING, message=MISSING)
        except Conflict:
            return Failure(code=FailureCode.CHANGED, message=CHANGED)
        except CloudError as error:
            if error.code == "InvalidObjectState":
                return Failure(code=FailureCode.ARCHIVED, message=ARCHIVED)
            if error.code in DENIED or error.code.startswith("KMS."):
                return Failure(code=FailureCode.ACCESS_DENIED, message=self._denied(error))
            raise

    def _conditions(self, image: ListedImage) -> dict[str, str]:
        """Returns the further arguments of the GET."""
        paid = {"RequestPayer": "requester"} if self.requester_pays else {}
        return paid | ({"IfMatch": image.etag} if self.round == 1 else {})

    def _denied(self, error: CloudError) -> str:
        """Returns a sentence about the permission that is probably missing."""
        if "kms" in str(error).lower():
            return (
                f"S3 refuses this image ({error.code}): the worker's role needs kms:Decrypt for the key with"
                " which it is encrypted, and the key must be enabled."
            )
        or_else = "" if self.requester_pays else ", or the bucket demands `requester_pays`"
        return (
            f"S3 refuses this image ({error.code}): the worker's role may lack s3:GetObject for it, or"
            f" kms:Decrypt if it is encrypted{or_else}."
        )
