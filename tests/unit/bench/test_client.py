from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pytest
from werkzeug.wrappers import Request

from bench.client import Post, form_of, percentile, send, send_all


class Echo(BaseHTTPRequestHandler):
    """Replies with the body of the request, and counts those that are there at once."""

    lock, here, most = Lock(), 0, 0

    def do_POST(self) -> None:
        with Echo.lock:
            Echo.here += 1
            Echo.most = max(Echo.most, Echo.here)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Echo.lock:
            Echo.here -= 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 100


@pytest.fixture
def url() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/path"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("clients", [1, 3, 50])
def test_every_post_gets_its_own_reply(url: str, clients: int):
    posts = [Post(str(number).encode(), "text/plain") for number in range(20)]
    Echo.most = 0
    replies, seconds = send_all(url, posts, clients)
    assert [reply.body for reply in replies] == [post.body for post in posts]
    assert {reply.status for reply in replies} == {200}
    assert 0 < max(reply.seconds for reply in replies) <= seconds
    assert Echo.most <= clients


def test_a_form_has_its_photos_as_files(url: str):
    post = form_of([b"one", b"two"], field="image")
    body = send(url, post).body
    with Request.from_values(method="POST", data=body, content_type=post.content_type) as request:
        assert [file.read() for file in request.files.getlist("image")] == [b"one", b"two"]


def test_percentile():
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([7], 99) == 7
