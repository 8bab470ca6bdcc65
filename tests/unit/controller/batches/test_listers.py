from threading import Event, Lock

import pytest

from cloud.image_id import new_request_id
from controller.batches.listers import MOST_THREADS, Listers
from local.driver import eventually
from tests.support.batch_work import batch_of
from tests.support.threads import join_threads


@pytest.fixture
def go_on():
    event = Event()
    yield event
    event.set()
    join_threads("list-batch")


def test_many_batches_take_few_threads_and_each_is_listed_once(go_on):
    listed, at_once, most, lock = [], 0, 0, Lock()

    def list_one(batch):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go_on.wait(20)
        with lock:
            at_once -= 1
        listed.append(batch)
        yield

    listers, batches = Listers(list_one), [batch_of(batch_id=new_request_id()) for _ in range(50)]
    for batch in [*batches, *batches]:
        listers.list(batch)
    go_on.set()
    join_threads("list-batch")
    assert most <= MOST_THREADS
    assert sorted(one.batch_id for one in listed) == sorted(one.batch_id for one in batches)


def test_a_listing_that_breaks_takes_no_thread_from_the_others(go_on):
    listed = []

    def list_one(batch):
        if batch.name == "breaks":
            raise ZeroDivisionError
        yield
        listed.append(batch.name)

    listers = Listers(list_one)
    for name in ["breaks"] * 2 * MOST_THREADS + ["last"]:
        listers.list(batch_of(batch_id=new_request_id(), name=name))
    join_threads("list-batch")
    assert listed == ["last"]


def test_without_a_thread_a_batch_waits_for_the_next_time(go_on, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("can't start new thread")

    listed = []

    def list_one(batch):
        listed.append(batch)
        yield

    listers, batch = Listers(list_one), batch_of()
    with monkeypatch.context() as patch:
        patch.setattr("controller.batches.listers.Thread.start", refuse)
        for _ in range(2 * MOST_THREADS):
            listers.list(batch)
    assert listed == []
    listers.list(batch)
    join_threads("list-batch")
    assert listed == [batch]


def test_batches_that_never_end_do_not_hold_up_the_others(go_on):
    listed = []

    def list_one(batch):
        while batch.name == "endless" and not go_on.is_set():
            yield
        listed.append(batch.name)

    listers = Listers(list_one)
    for name in ["endless"] * 2 * MOST_THREADS + ["last"]:
        listers.list(batch_of(batch_id=new_request_id(), name=name))
    eventually(lambda: "last" in listed)
    assert listed == ["last"]


def test_a_batch_is_not_begun_again_between_two_of_its_pages(go_on):
    begun = []

    def list_one(batch):
        begun.append(batch)
        while not go_on.is_set():
            yield

    listers, batch = Listers(list_one), batch_of()
    listers.list(batch)
    eventually(lambda: begun)
    for _ in range(1000):
        listers.list(batch)
    assert begun == [batch]
