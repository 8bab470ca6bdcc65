from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest

from cloud.errors import CloudError
from controller.image_requests import outbox as module
from controller.image_requests.outbox import Outbox


class Queue:
    """Notes what each call sends."""

    def __init__(self):
        self.calls: list[list[str]] = []
        self.may_send, self.called = Event(), Event()
        self.may_send.set()
        self.errors: list[CloudError] = []

    def send(self, bodies):
        self.called.set()
        assert self.may_send.wait(10)
        self.calls.append(list(bodies))
        if self.errors:
            raise self.errors.pop()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(100) as threads:
        yield threads


@pytest.fixture
def outbox(queue):
    with ThreadPoolExecutor(4) as pool:
        yield Outbox(queue, pool)


def send(outbox: Outbox, bodies: list[str]) -> None:
    with outbox.upload():
        outbox.send(bodies)


def test_a_lone_request_is_sent_at_once(outbox, queue, monkeypatch):
    monkeypatch.setattr(module, "LINGER_SECONDS", 60)
    send(outbox, ["a"])
    send(outbox, ["b", "c"])
    assert queue.calls == [["a"], ["b", "c"]]


def test_requests_that_are_uploaded_at_the_same_time_are_sent_ten_to_a_call(
    outbox, queue, threads, monkeypatch
):
    monkeypatch.setattr(module, "LINGER_SECONDS", 60)
    bodies = [str(number) for number in range(40)]
    with ExitStack() as stack:
        for _ in bodies:
            stack.enter_context(outbox.upload())
        list(threads.map(lambda body: outbox.send([body]), bodies))
    assert sorted(body for call in queue.calls for body in call) == sorted(bodies)
    assert [len(call) for call in queue.calls] == [10] * 4


def test_messages_do_not_wait_long_for_an_upload_that_takes_its_time(outbox, queue):
    with outbox.upload():  # of another request
        send(outbox, ["a"])
    assert queue.calls == [["a"]]


def test_what_comes_while_a_call_is_under_way_is_sent_in_the_next_one(outbox, queue, threads):
    queue.may_send.clear()
    first = threads.submit(send, outbox, ["first"])
    assert queue.called.wait(10)
    rest = [threads.submit(send, outbox, [str(number)]) for number in range(5)]
    while len(outbox._parcels) < 5:
        Event().wait(0.01)
    queue.may_send.set()
    for one in (first, *rest):
        one.result(10)
    assert [sorted(call) for call in queue.calls] == [["first"], ["0", "1", "2", "3", "4"]]


def test_a_large_request_fills_its_calls_and_only_the_rest_goes_with_others(outbox, queue):
    bodies = [f"{number:02}" for number in range(25)]
    send(outbox, bodies)
    assert sorted(map(len, queue.calls)) == [5, 10, 10]
    assert sorted(body for call in queue.calls for body in call) == bodies


def test_the_messages_of_a_request_stay_in_one_call(outbox, queue, threads, monkeypatch):
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.5)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(outbox.upload())
        list(threads.map(lambda name: outbox.send([name] * 4), "abcd"))
    assert [len(call) for call in queue.calls] == [8, 8]


def test_nothing_is_sent_for_a_request_without_messages(outbox, queue):
    send(outbox, [])
    assert queue.calls == []


@pytest.mark.parametrize("error", [CloudError("SlowDown"), RuntimeError("can't start new thread")], ids=type)
def test_a_call_that_fails_fails_its_requests_and_no_later_ones(outbox, queue, threads, monkeypatch, error):
    """Whatever it fails with, no request of it counts as sent."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 60)
    queue.errors = [error]
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(outbox.upload())
        sent = [threads.submit(outbox.send, [str(number)]) for number in range(10)]
        for one in sent:
            with pytest.raises(type(error), match=str(error)) as caught:
                one.result(20)
            assert type(caught.value) is type(error)
    assert len(queue.calls) == 1
    send(outbox, ["later"])
    assert queue.calls[-1] == ["later"]
