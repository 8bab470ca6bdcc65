"""An instance whose metadata service does not have its credentials at once."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cloud.buckets import Bucket
from cloud.clients import make_worker_clients
from cloud.errors import CloudError

CREDENTIALS = {
    "Code": "Success",
    "AccessKeyId": "key",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2099-01-01T00:00:00Z",
}


class Metadata(ThreadingHTTPServer):
    has_credentials = False


class Handler(BaseHTTPRequestHandler):
    """That of the metadata service, and of an S3 that has one object under every name."""

    server: Metadata

    def do_PUT(self) -> None:
        self.answer(b"a token of the service")

    def do_GET(self) -> None:
        if not self.path.startswith("/latest/"):
            self.answer(b"photo")
        elif not self.server.has_credentials:
            self.answer(b"", 404)
        else:
            self.answer(b"role" if self.path.endswith("/") else json.dumps(CREDENTIALS).encode())

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/no/such/file")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with Metadata(("127.0.0.1", 0), Handler) as server:
        for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_credentials_that_come_late_are_found(service: Metadata) -> None:
    bucket = Bucket(make_worker_clients().s3, "photos")
    with pytest.raises(CloudError, match="Unable to locate credentials"):
        bucket.read("cat")
    service.has_credentials = True
    assert bucket.read("cat")[0] == b"photo"
