import logging

from worker.threads import EXIT_STATUS, start


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
