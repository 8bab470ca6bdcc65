from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError


class CloudError(Exception):
    """AWS did not do what was asked; the message says what, and AWS's own reason."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class NotFound(CloudError):
    """The object, bucket, queue or instance that was asked for does not exist."""


class Conflict(CloudError):
    """A conditional write was refused: somebody else wrote first."""


NOT_FOUND = {
    "NoSuchKey",
    "404",
    "NoSuchBucket",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
}
CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@contextmanager
def calling(action: str) -> Iterator[None]:
    """Turns botocore's exceptions into the domain's own. `action` ends the sentence 'could not …'."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = NotFound if code in NOT_FOUND else Conflict if code in CONFLICT else CloudError
        raise kind(f"could not {action}: {error}", code) from error
    except BotoCoreError as error:
        raise CloudError(f"could not {action}: {error}") from error
