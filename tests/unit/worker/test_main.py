from threading import Event
from unittest.mock import Mock

import pytest

from cloud.clients import Clients, WorkerClients
from cloud.settings import ControllerSettings
from tests.support.small_worker import Brightness
from worker import __main__ as program
from worker.threads import EXIT_STATUS


def test_a_main_thread_that_fails_takes_the_other_threads_with_it(
    aws: Clients, settings: ControllerSettings, model: Brightness, monkeypatch: pytest.MonkeyPatch
):
    """They would go on to receive and to extend messages that nobody deletes or gives back."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    ended: list[int] = []
    monkeypatch.setattr("worker.threads.os._exit", ended.append)
    monkeypatch.setattr(program, "Heartbeat", Mock())
    monkeypatch.setattr(program, "stop_on", lambda *_: Event())
    monkeypatch.setattr(program.instance_metadata, "find_metadata", lambda _: (None, "i-test"))
    monkeypatch.setattr(program.Consumer, "run", fail)
    program.work(settings, WorkerClients(aws.s3, aws.sqs), model, "", [])
    assert ended == [EXIT_STATUS]
