import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.endpoint import Endpoint
from local.server import CLIENT, Server, has_gone

POLLS = 200


@pytest.fixture
def served() -> Iterator[Callable[[Any], Server]]:
    """`served(app)` serves a WSGI application until the test ends."""
    servers: list[tuple[Server, threading.Thread]] = []

    def serve(app: Any) -> Server:
        server = Server(0, app)
        servers.append((server, threading.Thread(target=server.serve)))
        servers[-1][1].start()
        return server

    yield serve
    for server, thread in servers:
        server.stop()
        thread.join()


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)


def reply(start_response: Any, body: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def test_a_call_is_answered_while_many_wait_and_each_of_them_in_the_end(served: Any) -> None:
    waiting, end = threading.Semaphore(0), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            waiting.release()
            end.wait(20)
        return reply(start_response, environ["QUERY_STRING"].encode())

    server = served(app)
    polls = [connect(server) for _ in range(POLLS)]
    for number, poll in enumerate(polls):
        poll.request("GET", f"/wait?{number}")
    for _ in polls:
        assert waiting.acquire(timeout=10)
    quick = connect(server)
    quick.request("GET", "/?now")
    assert quick.getresponse().read() == b"now"
    end.set()
    assert [int(poll.getresponse().read()) for poll in polls] == list(range(POLLS))
    for connection in [quick, *polls]:
        connection.close()


def test_a_connection_stays_open_for_the_next_call(served: Any) -> None:
    connection = connect(served(lambda environ, start: reply(start, environ["wsgi.input"].read())))
    ports = set()
    for body in (b"one", iter([b"tw", b"o"]), b""):
        connection.request("PUT", "/", body)
        connection.getresponse().read()
        ports.add(connection.sock.getsockname()[1])
    assert len(ports) == 1
    connection.close()


def test_it_is_reached_only_from_this_machine(served: Any) -> None:
    server = served(lambda environ, start: reply(start, b""))
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_dash(served: Any) -> None:
    connection = connect(served(lambda environ, start: reply(start, json.dumps(sorted(environ)).encode())))
    connection.request("GET", "/", headers={"X_Amz_Target": "a", "x-amz-meta-my_key": "b", "X-Other": "c"})
    names = json.loads(connection.getresponse().read())
    assert {"HTTP_X_AMZ_META_MY_KEY", "HTTP_X_OTHER"} <= set(names)
    assert "HTTP_X_AMZ_TARGET" not in names
    connection.close()


def test_the_application_learns_that_the_client_has_gone(served: Any) -> None:
    asked, left = threading.Event(), threading.Event()
    found: list[bool] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(has_gone(environ[CLIENT]))
        asked.set()
        left.wait(10)
        end = time.monotonic() + 10
        while not has_gone(environ[CLIENT]) and time.monotonic() < end:
            time.sleep(0.01)
        found.append(has_gone(environ[CLIENT]))
        asked.set()
        return reply(start_response, b"")

    connection = connect(served(app))
    connection.request("GET", "/")
    assert asked.wait(10)
    asked.clear()
    connection.close()
    left.set()
    assert asked.wait(20)
    assert found == [False, True]


def test_a_taken_port_is_an_error_that_leaves_no_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        Server(other.getsockname()[1], None)


def test_the_end_of_the_local_aws_ends_its_long_polls() -> None:
    endpoint = Endpoint()
    endpoint.start()
    connection = http.client.HTTPConnection(endpoint.url.removeprefix("http://"))
    signed = f"AWS4-HMAC-SHA256 Credential={endpoint.key.id}/20260101/us-east-1/sqs/aws4_request, "

    def call(operation: str, **parameters: Any) -> Any:
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        connection.request("POST", "/", json.dumps(parameters), {"Authorization": signed} | headers)
        return json.loads(connection.getresponse().read())

    queue = call("CreateQueue", QueueName="requests")["QueueUrl"]
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(call, "ReceiveMessage", QueueUrl=queue, WaitTimeSeconds=20)
        while endpoint.record()["calls"]["sqs"].get("ReceiveMessage", 0) == 0:
            time.sleep(0.01)
        time.sleep(0.1)  # from the count to the poll
        began = time.monotonic()
        endpoint.stop()
        assert poll.result() == {}
    assert time.monotonic() - began < 5
    connection.close()
