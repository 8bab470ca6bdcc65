import logging
import os
from concurrent.futures import ThreadPoolExecutor
from threading import get_native_id

from worker.threads import EXIT_STATUS, start, yield_to_others


def test_a_thread_that_fails_ends_its_process(monkeypatch, caplog):
    """What it held would never be settled, and the worker would never end."""
    ended = []
    monkeypatch.setattr("worker.threads.os._exit", ended.append)

    def fail(number):
        raise RuntimeError("can't start new thread")

    with caplog.at_level(logging.CRITICAL):
        for thread in start("receive", 1, fail):
            thread.join()
    assert ended == [EXIT_STATUS]
    assert "can't start new thread" in caplog.text


def test_a_thread_of_a_worker_that_yields_already_yields_no_less():
    """A worker that is started by hand may have any priority."""

    def priority(began: int) -> int:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), began)
        yield_to_others()
        return os.getpriority(os.PRIO_PROCESS, get_native_id())

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(priority, 19).result() == 19
