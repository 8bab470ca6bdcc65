"""What S3 does to conditional writes in rare moments, as botocore sees it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from botocore.awsrequest import AWSRequest, AWSResponse

from cloud.clients import S3Client
from cloud.errors import RACED


class Raw(BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def handling(s3: S3Client, event: str, handler: Callable[..., Any]) -> Iterator[None]:
    s3.meta.events.register_first(f"{event}.s3.PutObject", handler)
    try:
        yield
    finally:
        s3.meta.events.unregister(f"{event}.s3.PutObject", handler)


def is_conditional(request: AWSRequest) -> bool:
    return "If-None-Match" in request.headers or "If-Match" in request.headers


@contextmanager
def raced(s3: S3Client, times: int) -> Iterator[list[str]]:
    """S3 answers so many conditional writes with 409. Yields their URLs."""
    refused: list[str] = []

    def refuse(request: AWSRequest, **_: Any) -> AWSResponse | None:
        if not is_conditional(request) or len(refused) == times:
            return None
        refused.append(request.url)
        request.method = "HEAD"  # moto gets it nevertheless
        body = f"<Error><Code>{RACED}</Code><Message>Try again.</Message></Error>".encode()
        return AWSResponse(request.url, 409, {}, Raw(body))

    with handling(s3, "before-send", refuse):
        yield refused


@contextmanager
def lost_reply(s3: S3Client) -> Iterator[None]:
    """The first reply to each write is lost, so botocore repeats the write."""
    with handling(s3, "needs-retry", lambda attempts, **_: 0 if attempts == 1 else None):
        yield
