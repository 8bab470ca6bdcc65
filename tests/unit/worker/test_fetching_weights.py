"""ImageNet's weights are downloaded once, checked, and never waited for without end."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torchvision.models import ResNet18_Weights

from cloud.errors import CloudError
from tests.support.models import CATEGORIES, LITE0, state_dict
from worker.artefact import ClassifierError
from worker.torch_network import IMAGENET, fetch_weights, load_model


def no_s3(url: str) -> bytes:
    raise CloudError(f"could not read {url}")


def refusal() -> str:
    with pytest.raises(ClassifierError) as caught:
        load_model("resnet18", IMAGENET, None, no_s3)
    return str(caught.value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, bytes], None]]:
    """`serve(promised, sent)`: a server answers `sent` where resnet18's URL has the hash of `promised`."""
    body = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def serve(promised: bytes, sent: bytes) -> None:
        nonlocal body
        body = sent
        file = f"resnet18-{hashlib.sha256(promised).hexdigest()[:8]}.pth"
        url = f"http://127.0.0.1:{httpd.server_port}/models/{file}"
        monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", url)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield serve
        httpd.shutdown()
        thread.join()


def test_weights_are_fetched_once_into_torch_s_cache(
    torch_cache: Path, server: Callable[[bytes, bytes], None]
):
    stream = BytesIO()
    torch.save(state_dict(), stream)
    server(stream.getvalue(), stream.getvalue())
    file = fetch_weights("resnet18")
    assert file.parent == torch_cache
    assert file.read_bytes() == stream.getvalue()
    server(stream.getvalue(), b"this is not asked for again")
    assert fetch_weights("resnet18") == file
    assert load_model("resnet18", IMAGENET, None, no_s3).labels == tuple(CATEGORIES)


def test_weights_other_than_promised_are_thrown_away(
    torch_cache: Path, server: Callable[[bytes, bytes], None]
):
    server(b"weights", b"half of the wei")
    with pytest.raises(ClassifierError, match=r"cannot be fetched from .* invalid hash value"):
        fetch_weights("resnet18")
    assert list(torch_cache.iterdir()) == []


def test_a_network_that_drops_everything_cannot_hang_the_start(
    torch_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-01234567.pth"
        monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        started, before = time.monotonic(), socket.getdefaulttimeout()
        with pytest.raises(ClassifierError, match=r"cannot be fetched from .*timed out"):
            fetch_weights("resnet18", timeout=0.3)
    assert time.monotonic() - started < 10
    assert socket.getdefaulttimeout() == before
    assert list(torch_cache.iterdir()) == []


def test_without_its_weights_there_is_no_classifier(torch_cache: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(
        ResNet18_Weights.DEFAULT.value, "url", f"http://127.0.0.1:{port}/resnet18-01234567.pth"
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "The weights of resnet18 cannot be fetched from http" in refusal()


def test_lite0_s_weights_are_on_this_machine_already(torch_cache: Path):
    assert fetch_weights(LITE0).suffix == ".pth"
    assert not torch_cache.exists()
