import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO

import pytest

from controller.web.wait_limits import MOST_ANSWERS, MOST_ANSWERS_OF_CLIENT, WaitLimits
from tests.support.web_client import post


def test_streams_take_half_of_the_threads_and_all_waits_together_leave_some():
    waits = WaitLimits(16)
    with ExitStack() as held:
        streams = [held.enter_context(waits.of_stream()) for _ in range(20)]
        requests = [held.enter_context(waits.of_request()) for _ in range(20)]
    assert streams == [True] * 8 + [False] * 12
    assert requests == [True] * 6 + [False] * 14


def test_requests_that_wait_may_take_the_room_of_streams():
    waits = WaitLimits(16)
    with ExitStack() as held:
        assert [held.enter_context(waits.of_request()) for _ in range(15)] == [True] * 14 + [False]
        assert not held.enter_context(waits.of_stream())


def test_what_ends_leaves_its_room_to_others():
    waits = WaitLimits(16)
    for _ in range(100):
        with waits.of_stream() as may, waits.of_request() as may_too:
            assert may
            assert may_too


def all_are_read(waits: WaitLimits) -> ExitStack:
    """As many answers are read for some clients as may be read at once."""
    held = ExitStack()
    for number in range(MOST_ANSWERS):
        assert held.enter_context(waits.of_answer(f"client {number % 5}"))
    return held


def test_a_client_who_reads_many_answers_keeps_nobody_else_from_theirs(monkeypatch):
    monkeypatch.setattr("controller.web.wait_limits.ANSWER_SECONDS", 0.01)
    waits = WaitLimits(640)
    with ExitStack() as held:
        may_read = [held.enter_context(waits.of_answer("greedy")) for _ in range(MOST_ANSWERS)]
        assert may_read.count(True) == MOST_ANSWERS_OF_CLIENT
        assert held.enter_context(waits.of_answer("modest"))
    with waits.of_answer("greedy") as may_read:
        assert may_read


@pytest.fixture
def answered(start, photo, work):
    """The client of a process that does not poll the request, and the address of the request."""
    url = post(start().test_client(), photo(), headers={"Prefer": "respond-async"}).json["url"]
    work()
    return start().test_client(), url


WAYS = {
    "look": lambda client, url: client.get(url),
    "cancel": lambda client, url: client.post(f"{url}/cancel"),
    "retry": lambda client, url: client.post(f"{url}/retry"),
    "stream": lambda client, url: client.get(f"{url}/events"),
}


@pytest.fixture
def read_at_once(monkeypatch):
    """Returns how many requests a client's process reads from S3 at once while many calls are made."""

    def read_at_once(client, call, arguments):
        stored = client.application.extensions["services"].polling.stored
        load, reading, most = stored.load, [], []

        def slowly(request_id):
            reading.append(request_id)
            most.append(len(reading))
            time.sleep(0.05)
            reading.pop()
            return load(request_id)

        monkeypatch.setattr(stored, "load", slowly)
        with ThreadPoolExecutor(len(arguments)) as pool:
            replies = list(pool.map(lambda it: call(client.application.test_client(), it), arguments))
        return max(most), {reply.status_code for reply in replies}

    return read_at_once


@pytest.mark.parametrize("way", WAYS)
def test_few_requests_are_read_from_s3_at_once_and_the_others_wait(answered, read_at_once, way):
    """Each may have 1,000 images, and take 15 MB."""
    client, url = answered
    most, statuses = read_at_once(client, WAYS[way], [url] * 3 * MOST_ANSWERS_OF_CLIENT)
    assert statuses == {409 if way == "retry" else 200}
    assert most <= MOST_ANSWERS_OF_CLIENT


def repeat(client, key):
    return post(client, (BytesIO(b"no image"), "a.txt"), headers={"Idempotency-Key": key})


def test_few_requests_are_read_from_s3_at_once_for_those_who_would_wait_for_answers(start, read_at_once):
    """Who waits for the same request shares it with others, so each of these waits for another one."""
    poster, keys = start().test_client(), [f"key-{n}" for n in range(3 * MOST_ANSWERS_OF_CLIENT)]
    urls = [repeat(poster, key).json["url"] for key in keys]
    wait = {"Prefer": "wait=60"}
    looks = read_at_once(start().test_client(), lambda client, url: client.get(url, headers=wait), urls)
    assert looks == (MOST_ANSWERS_OF_CLIENT, {200})
    assert read_at_once(start().test_client(), repeat, keys) == (MOST_ANSWERS_OF_CLIENT, {200})


def test_a_stream_of_what_is_answered_keeps_no_request_in_memory_for_a_slow_client(answered):
    client, url = answered
    stream = client.get(f"{url}/events")
    assert not client.application.extensions["services"].follower._shared
    assert "event: image" in stream.text


def test_an_answer_that_the_process_knows_waits_for_none_from_s3(idle, photo):
    url = post(idle, photo(), headers={"Prefer": "respond-async"}).json["url"]
    with all_are_read(idle.application.extensions["services"].wait_limits):
        assert idle.get(url).json["counts"]["waiting"] == 1


def test_who_waits_for_the_answers_of_others_in_vain_is_told(idle, monkeypatch):
    services = idle.application.extensions["services"]
    monkeypatch.setattr("controller.web.wait_limits.ANSWER_SECONDS", 0.1)
    with all_are_read(services.wait_limits):
        reply = idle.get(f"/requests/{services.request_ids.new()}")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
    assert "Too many answers are being read" in reply.text
