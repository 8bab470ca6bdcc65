"""Limits how many whole requests are read from S3 at once, because each may have 1,000 images."""

from contextlib import AbstractContextManager, nullcontext

from controller.web.client_name import client_name
from controller.web.services import services
from controller.web.wait_limits import granted


def reading() -> AbstractContextManager[None]:
    """Must enclose what reads a request, and what is made of it.

    Raises ServiceUnavailable on entry when others are read for too long.
    """
    limit = services().wait_limits.of_answer(client_name())
    return granted(limit, "Too many answers are being read. Try again in a few seconds.")


def looking_at(request_id: str) -> AbstractContextManager[None]:
    """Does what `reading` does, unless this process polls the request, and so has it in its memory."""
    return nullcontext() if services().polling.watched(request_id) else reading()
