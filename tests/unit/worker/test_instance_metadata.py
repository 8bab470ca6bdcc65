from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from local.driver import eventually
from worker import instance_metadata

TOKEN = "secret-token"


class Service(BaseHTTPRequestHandler):
    items: dict[str, str] = {}  # noqa: RUF012
    errors: list[int] = []  # noqa: RUF012
    cut: Event
    """Set while replies end before they are whole."""

    def do_PUT(self) -> None:
        assert int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self.answer(200, TOKEN)

    def do_GET(self) -> None:
        path = self.path.removeprefix("/latest/meta-data/")
        if self.errors:
            self.answer(self.errors.pop(), "")
        elif self.headers["X-aws-ec2-metadata-token"] != TOKEN:
            self.answer(401, "")
        elif path in self.items:
            self.answer(200, self.items[path])
        else:
            self.answer(404, "")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        if self.cut.is_set():
            self.send_header("Content-Length", str(len(text) + 1))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def items() -> dict[str, str]:
    Service.items, Service.cut = {"instance-id": "i-0123"}, Event()
    return Service.items


@pytest.fixture
def endpoint(items: dict[str, str]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_instance_learns_its_id(endpoint: str):
    metadata, instance_id = instance_metadata.find_metadata(endpoint)
    assert metadata is not None
    assert instance_id == "i-0123"


def test_an_instance_learns_its_id_although_the_service_is_busy_at_first(endpoint: str, monkeypatch):
    monkeypatch.setattr(Service, "errors", [503, 429])
    _, instance_id = instance_metadata.find_metadata(endpoint)
    assert instance_id == "i-0123"


def test_an_instance_learns_its_id_although_the_service_is_slow_at_first(endpoint: str, monkeypatch):
    """It would not be known to be ready by another name, and would be terminated."""
    slow, call = [True], instance_metadata.Metadata._call

    def time_out_once(self, *args):
        if slow:
            slow.clear()
            raise TimeoutError
        return call(self, *args)

    monkeypatch.setattr(instance_metadata.Metadata, "_call", time_out_once)
    _, instance_id = instance_metadata.find_metadata(endpoint)
    assert instance_id == "i-0123"


def test_off_ec2_it_goes_by_host_and_process(monkeypatch):
    monkeypatch.setattr(instance_metadata, "TRY_AGAIN_SECONDS", 0)
    metadata, name = instance_metadata.find_metadata("http://127.0.0.1:9")
    assert metadata is None
    assert name.rpartition("-")[2].isdecimal()


def test_an_interruption_notice_drains_the_worker(endpoint: str, items: dict[str, str]):
    stop = Event()
    instance_metadata.watch(instance_metadata.Metadata(endpoint), stop, every=0.02)
    assert not stop.wait(0.2)
    items["spot/instance-action"] = '{"action": "terminate", "time": "2026-01-01T00:00:00Z"}'
    assert stop.wait(5)


def test_a_reply_that_is_cut_fails_as_none_does_and_no_later_notice_is_missed(
    endpoint: str, items: dict[str, str], caplog
):
    Service.cut.set()
    metadata, stop = instance_metadata.Metadata(endpoint), Event()
    with pytest.raises(OSError, match="IncompleteRead"):
        metadata.user_data()
    instance_metadata.watch(metadata, stop, every=0.02)
    eventually(lambda: "does not answer" in caplog.text)
    Service.cut.clear()
    items["spot/instance-action"] = "{}"
    assert stop.wait(5)


def test_a_rebalance_recommendation_drains_nobody(endpoint: str, items: dict[str, str]):
    stop = Event()
    items["events/recommendations/rebalance"] = '{"noticeTime": "2026-01-01T00:00:00Z"}'
    instance_metadata.watch(instance_metadata.Metadata(endpoint), stop, every=0.02)
    assert not stop.wait(0.5)
    stop.set()
