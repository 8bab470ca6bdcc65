"""Why an image has no label, as a code. It has a module of its own, because decoders load little else."""

from enum import StrEnum


class FailureCode(StrEnum):
    """Why an image has no label."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    BROKEN = "broken"
    TRUNCATED = "truncated"
    CRASHES_DECODER = "crashes_decoder"
    IMAGE_MISSING = "image_missing"
    CANCELLED = "cancelled"
    GAVE_UP = "gave_up"
    NO_WORKERS = "no_workers"
    STORAGE_FAILED = "storage_failed"
    BROKEN_ANSWER = "broken_answer"
    CHANGED = "changed"
    ACCESS_DENIED = "access_denied"
    ARCHIVED = "archived"
    TOO_LARGE = "too_large"

    @property
    def retryable(self) -> bool:
        """Whether the same image may be classified if it is tried again."""
        return self in (
            FailureCode.GAVE_UP,
            FailureCode.NO_WORKERS,
            FailureCode.STORAGE_FAILED,
            FailureCode.BROKEN_ANSWER,
            FailureCode.CHANGED,
            FailureCode.ACCESS_DENIED,
            FailureCode.ARCHIVED,
        )
