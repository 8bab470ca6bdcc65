"""The exceptions that stand for failed AWS calls."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError


class CloudError(Exception):
    """An AWS call failed. The message says what could not be done, and gives the reason that AWS gave."""

    def __init__(self, message: str, code: str = "", repeated: bool = False) -> None:
        super().__init__(message)
        self.code = code
        """The error code of AWS, or "" if there was no response."""
        self.repeated = repeated
        """Whether boto3 had made the same call before, which may have succeeded without a reply."""

    @property
    def public(self) -> str:
        """The reason without the names and ids of the account that the message may have, for any client."""
        return f"AWS says {self.code}" if self.code else "AWS gave no usable answer"


class NotFound(CloudError):
    """The object, bucket, queue or instance does not exist."""


class Broken(CloudError):
    """An object is not what whoever should have written it writes."""


class Withheld(CloudError):
    """S3 has the object, but gives it to nobody: its writer put it into an archive, or kept its key."""


class Conflict(CloudError):
    """A conditional write was refused because its condition does not hold: another write came first."""


NOT_FOUND = {
    "NoSuchKey",
    "404",
    "NoSuchBucket",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
}
CONFLICT = {"PreconditionFailed", "412"}
WITHHELD = {"InvalidObjectState", "InvalidRequest"}
"""Of a GetObject. The second one says that it must come with the key with which the object is encrypted."""
# S3 has refused a conditional write because another write or deletion was under way. That says nothing about
# the condition, so the write must be tried again.
RACED = "ConditionalRequestConflict"


@contextmanager
def calling(action: str) -> Iterator[None]:
    """Turns exceptions of botocore in the block into CloudError, or into the kind of it that fits.

    `action` says what the block does, in words that follow "could not". A reply that cannot be parsed, such
    as one that was cut, counts as none.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        repeated = bool(error.response.get("ResponseMetadata", {}).get("RetryAttempts"))
        raise kind_of(code)(f"could not {action}: {error}", code, repeated) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise CloudError(f"could not {action}: {error}") from error


def kind_of(code: str) -> type[CloudError]:
    """Returns the exception that stands for an error code of AWS."""
    for kind, codes in ((NotFound, NOT_FOUND), (Conflict, CONFLICT), (Withheld, WITHHELD)):
        if code in codes:
            return kind
    return CloudError
