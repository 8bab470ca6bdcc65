import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from cloud.clients import READ_TIMEOUT, make_worker_clients
from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue
from worker.heartbeat import Heartbeat, read_timeout

VISIBILITY = 0.3
MESSAGES = [Message("a", "handle-a", 1), Message("b", "handle-b", 1)]


class Queue:
    def __init__(self) -> None:
        self.extended: list[list[str]] = []
        self.again = Event()
        self.refuse = False

    def extend(self, messages: list[Message], seconds: int) -> None:
        self.extended.append([m.body for m in messages])
        self.again.set()
        if self.refuse:
            raise CloudError("no")

    def wait(self, seconds: float) -> bool:
        self.again.clear()
        return self.again.wait(seconds)


def heartbeat(queue: Queue, stop: Event, hung: Event) -> Heartbeat:
    found = Heartbeat(queue, VISIBILITY, on_hang=hung.set)  # type: ignore[arg-type]
    found.start(stop)
    return found


def test_messages_in_hand_are_extended_while_work_goes_on_and_no_longer():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    assert queue.wait(5)
    beat.drop(MESSAGES[:1])
    assert queue.wait(5)
    assert queue.extended[-1] == ["b"]
    beat.drop(MESSAGES)
    assert not queue.wait(2 * VISIBILITY)
    assert not hung.is_set()
    stop.set()


def test_a_step_that_hangs_loses_its_message_and_then_the_process():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    with beat.working(MESSAGES[:1]):
        assert hung.wait(10)
    stop.set()
    assert sum("a" in extended for extended in queue.extended) <= 3
    assert "a" not in queue.extended[-1]
    assert "b" in queue.extended[-1]


def test_steps_that_end_keep_their_message_however_long_they_last_together():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    for _ in range(10):
        with beat.working(MESSAGES):
            assert queue.wait(5)
    assert not hung.is_set()
    assert all(extended == ["a", "b"] for extended in queue.extended)
    stop.set()


def test_the_end_of_a_step_does_not_end_the_next_one():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    fetch, decode = beat.working(MESSAGES), beat.working(MESSAGES)
    fetch.__enter__()
    decode.__enter__()  # in another thread, before the first one has ended
    fetch.__exit__(None, None, None)
    assert hung.wait(10)
    stop.set()


def test_one_of_many_steps_of_a_message_that_hangs_is_found_although_others_begin_and_end():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES[:1])
    with beat.working(MESSAGES[:1]):
        while not hung.wait(0.01):
            with beat.working(MESSAGES[:1]):
                pass
    count = len(queue.extended)
    assert count <= 3
    assert queue.wait(5), "the message is extended again once the step has ended after all"
    stop.set()


def test_each_message_is_extended_in_the_queue_that_it_is_of():
    queue, other, stop, hung = Queue(), Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES[:1])
    beat.hold(MESSAGES[1:], other)  # type: ignore[arg-type]
    assert queue.wait(5)
    assert other.wait(5)
    stop.set()
    assert {body for extended in queue.extended for body in extended} == {"a"}
    assert {body for extended in other.extended for body in extended} == {"b"}


def test_messages_that_were_held_for_a_moment_are_not_extended():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    for _ in range(20):
        beat.hold(MESSAGES)
        stop.wait(VISIBILITY / 10)
        beat.drop(MESSAGES)
    assert queue.extended == []
    stop.set()


def test_a_failed_extension_is_tried_again():
    queue, stop, hung = Queue(), Event(), Event()
    queue.refuse = True
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    assert queue.wait(5)
    assert queue.wait(5)
    stop.set()


HOLDS_THE_INTERPRETER = """
import re, threading
from worker.__main__ import end_after
end_after(0.5)
threading.Timer(60, lambda: None).start()
re.match("(a+)+$", "a" * 40 + "b")
"""


def test_a_process_in_which_no_thread_of_python_can_run_is_ended_with_a_traceback():
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_THE_INTERPRETER], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "re/__init__.py" in done.stderr


def test_each_look_is_told():
    queue, stop, beaten = Queue(), Event(), Event()
    Heartbeat(queue, VISIBILITY, on_hang=lambda: None, on_beat=beaten.set).start(stop)
    assert beaten.wait(5)
    beaten.clear()
    assert beaten.wait(5)
    stop.set()


class SilentOnce(ThreadingHTTPServer):
    """An SQS that takes the first extension and never answers it, as when a connection is lost on its way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SilentOnceHandler)
        self.extended: list[float] = []
        self.over, self.again = Event(), Event()


class SilentOnceHandler(BaseHTTPRequestHandler):
    server: SilentOnce

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        reply: dict = {"QueueUrl": f"http://127.0.0.1:{self.server.server_port}/queue"}
        if self.headers["X-Amz-Target"].endswith("ChangeMessageVisibilityBatch"):
            self.server.extended.append(time.monotonic())
            if len(self.server.extended) == 1:
                self.server.over.wait(READ_TIMEOUT)
                return
            reply = {"Successful": [{"Id": "0"}], "Failed": []}
            self.server.again.set()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def silent_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentOnce]:
    with SilentOnce() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        }.items():
            monkeypatch.setenv(name, value)
        yield server
        server.over.set()
        server.shutdown()


def test_an_extension_that_is_never_answered_is_repeated_before_the_message_comes_back(
    silent_once: SilentOnce, monkeypatch: pytest.MonkeyPatch
):
    visibility, stop = 6, Event()
    monkeypatch.setattr("worker.heartbeat.SHORTEST_READ_TIMEOUT", 1)
    queue = RequestQueue(make_worker_clients(read_timeout(visibility)).sqs, "queue", visibility)
    beat = Heartbeat(queue, visibility, on_hang=lambda: None)
    beat.start(stop)
    received = time.monotonic()
    beat.hold(MESSAGES[:1])
    assert silent_once.again.wait(READ_TIMEOUT)
    assert silent_once.extended[1] - received < visibility
    stop.set()


def test_a_worker_waits_for_a_reply_for_a_part_of_the_visibility_timeout_and_longer_than_a_long_poll():
    assert [read_timeout(visibility) for visibility in (2, 60, 43200)] == [3, 10, READ_TIMEOUT]
