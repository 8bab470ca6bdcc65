"""A machine that cannot resolve names for a while."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from cloud.buckets import Bucket
from cloud.clients import make_worker_clients
from cloud.errors import CloudError


class Storage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("ETag", "1")
        self.end_headers()
        self.wfile.write(b"photo")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def storage() -> Iterator[int]:
    """The port of an S3 that has one object under every name."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_without_dns_a_call_fails_in_a_sentence_and_the_next_one_finds_aws_again(storage, monkeypatch):
    resolve, works = socket.getaddrinfo, []

    def getaddrinfo(host, *arguments, **more):
        if not works:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1", *arguments, **more)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://aws.example:{storage}")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    bucket, began = Bucket(make_worker_clients().s3, "photos"), time.monotonic()
    with pytest.raises(CloudError, match="could not read s3://photos/cat") as raised:
        bucket.read("cat")
    assert raised.value.public == "AWS gave no usable answer"
    assert time.monotonic() - began < 15
    works.append(True)
    assert bucket.read("cat")[0] == b"photo"
