"""Recognizes which AWS call an HTTP request is, and counts the calls."""

from collections import Counter
from io import BytesIO
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from moto.core.request import Request
from moto.core.routing import NotFound, get_service_router

from local.access import signed_with


class Calls:
    def __init__(self) -> None:
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, environ: dict[str, Any], s3_operation: str = "") -> str:
        """Counts the call and returns its operation, e.g. `GetObject`.

        `environ` is the WSGI environment. The body of the request can still be read afterwards.
        `s3_operation` is the operation if it is known to be one of S3.
        """
        call = ("s3", s3_operation) if s3_operation else service_and_operation(environ)
        with self._lock:
            self._counts[call] += 1
        return call[1]

    def record(self) -> dict[str, dict[str, int]]:
        """Returns the number of calls by service and operation, e.g. ``{"s3": {"GetObject": 3}}``."""
        record: dict[str, dict[str, int]] = {}
        with self._lock:
            for (service, operation), count in sorted(self._counts.items()):
                record.setdefault(service, {})[operation] = count
        return record


def service_and_operation(environ: dict[str, Any]) -> tuple[str, str]:
    service = signed_with(environ)[1] or "s3"  # like moto, which treats unsigned requests as S3's
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, target.split(".")[-1]
    if service == "s3":
        try:
            return service, get_service_router(service).match(Request(environ))[0].name
        except NotFound:
            return service, "unknown"
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    return service, parse_qs(body.decode(errors="replace")).get("Action", ["unknown"])[0]
