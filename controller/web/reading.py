"""Limits how many whole requests are read from S3 at once, because each may have 1,000 images."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from werkzeug.exceptions import ServiceUnavailable

from controller.web.client_name import client_name
from controller.web.services import services
from controller.web.wait_limits import AGAIN_SECONDS


@contextmanager
def reading() -> Iterator[None]:
    """Must enclose what reads a request, and what is made of it.

    Raises ServiceUnavailable when others are read for too long.
    """
    with services().wait_limits.of_answer(client_name()) as may_read:
        if not may_read:
            raise ServiceUnavailable(
                "Too many answers are being read. Try again in a few seconds.", retry_after=AGAIN_SECONDS
            )
        yield


def looking_at(request_id: str) -> AbstractContextManager[None]:
    """Does what `reading` does, unless this process polls the request, and so has it in its memory."""
    return nullcontext() if services().polling.watched(request_id) else reading()
