"""A client of HTTP that takes little of the processor, because it shares a machine with what it measures."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import quantiles
from threading import Barrier
from urllib.parse import urlsplit

from urllib3 import encode_multipart_formdata

TIMEOUT = 300.0  # seconds


@dataclass(frozen=True)
class Post:
    """The body of a POST, made before anything is measured."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    seconds: float
    """From before the connection was made until the whole reply was here."""


def form_of(photos: Sequence[bytes], field: str = "image_file") -> Post:
    """Returns a form with these photos as its files."""
    fields = [(field, (f"{number}.jpg", photo, "image/jpeg")) for number, photo in enumerate(photos)]
    return Post(*encode_multipart_formdata(fields))


def send(url: str, post: Post) -> Reply:
    """Sends the POST over a connection of its own."""
    started = time.perf_counter()
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request("POST", parts.path or "/", post.body, {"Content-Type": post.content_type})
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    return Reply(reply.status, body, time.perf_counter() - started)


def send_all(url: str, posts: Sequence[Post], clients: int) -> tuple[list[Reply], float]:
    """Sends the POSTs from at most so many clients, each of which sends one after the other.

    Returns the replies, in the order of the POSTs, and the seconds from the first POST to the last reply.
    """
    clients = min(clients, len(posts))
    together = Barrier(clients + 1)
    with ThreadPoolExecutor(clients, initializer=together.wait) as pool:
        replies = [pool.submit(send, url, post) for post in posts]
        together.wait()
        started = time.perf_counter()
        found = [reply.result() for reply in replies]
        return found, time.perf_counter() - started


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns the value that `percent` % of the values are at most."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
