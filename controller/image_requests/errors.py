"""Why a request is not taken, or not done as asked. What HTTP makes of it is in controller/web/errors.py."""

from typing import ClassVar


class RequestRefused(Exception):
    """Nothing of the request was done. Its message is for the person who sent it, its code for programs."""

    code: ClassVar[str]

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        """Seconds after which the same may be taken; None when it will not be."""


class NoFile(RequestRefused):
    """The request came without a file."""

    code = "no_file"


class EmptyFile(RequestRefused):
    """Every file of the request is empty."""

    code = "empty_file"


class TooManyFiles(RequestRefused):
    """The request has more files than MAX_FILES allows."""

    code = "too_many_files"


class BadIdempotencyKey(RequestRefused):
    """The Idempotency-Key is none."""

    code = "bad_idempotency_key"


class IdempotencyKeyReused(RequestRefused):
    """The Idempotency-Key belongs to a request with other files."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(RequestRefused):
    """Another POST with the same Idempotency-Key is under way, and it is not known yet what becomes of it."""

    code = "idempotency_key_in_use"


class RequestForgotten(RequestRefused):
    """The request of the Idempotency-Key has expired."""

    code = "request_forgotten"


class InvalidState(RequestRefused):
    """The request is in no state for what was asked; the message says what would be right."""

    code = "conflict"
