"""An object whose writer has chosen its headers, which S3 returns with it."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cloud.buckets import Bucket
from cloud.clients import make_worker_clients

MOST_METADATA = {f"x-amz-meta-{n:x}": "" for n in range(1000)}
"""S3 keeps 2 KB of metadata, of which each name counts without its prefix."""


class Storage(ThreadingHTTPServer):
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": "5", "ETag": "1", **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"photo")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An S3 that has one object under every name."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with Storage(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Expires": "12:" + "9" * 60}, id="a number"),
        pytest.param({"Expires": "Mon Jan 1 00:00:0099999999999999999999 203031"}, id="a time"),
        pytest.param({"Expires": "never"}, id="no time"),
        pytest.param(MOST_METADATA, id="much metadata"),
    ],
)
def test_an_object_is_read_whatever_headers_its_writer_has_chosen(
    storage: Storage, headers: dict[str, str]
) -> None:
    storage.headers = headers
    assert Bucket(make_worker_clients().s3, "photos").read("cat")[0] == b"photo"
