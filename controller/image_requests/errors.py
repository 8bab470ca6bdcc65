"""The reasons to refuse a request. controller/web/errors.py maps them to HTTP statuses."""

from typing import ClassVar


class RequestRefused(Exception):
    """The request was refused, and nothing was changed.

    `message` is for the person who sent the request, `code` is for programs.
    """

    code: ClassVar[str]

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds after which the same request may succeed, or None if it never will."""


class NoFile(RequestRefused):
    """The request came without a file."""

    code = "no_file"


class TooManyFiles(RequestRefused):
    """The request has more files than MAX_FILES allows."""

    code = "too_many_files"


class BadIdempotencyKey(RequestRefused):
    """The Idempotency-Key is malformed."""

    code = "bad_idempotency_key"


class IdempotencyKeyReused(RequestRefused):
    """The Idempotency-Key belongs to a request with other files."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(RequestRefused):
    """Another POST with the same Idempotency-Key is in progress, and its outcome is not known yet."""

    code = "idempotency_key_in_use"


class RequestForgotten(RequestRefused):
    """The request of the Idempotency-Key has expired."""

    code = "request_forgotten"


class InvalidState(RequestRefused):
    """The state of the request does not permit the action. The message says what to do instead."""

    code = "conflict"
