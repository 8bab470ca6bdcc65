from collections.abc import Callable
from threading import Event
from unittest.mock import Mock

import pytest

from cloud.buckets import OutputBucket
from cloud.clients import Clients, WorkerClients
from cloud.image_id import ImageId
from cloud.settings import ControllerSettings
from tests.support.small_worker import Brightness, grey
from worker import __main__ as program
from worker.consumer import Consumer
from worker.decoder import CannotStart
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


def test_a_worker_whose_decoders_do_not_start_takes_no_messages(
    aws: Clients,
    settings: ControllerSettings,
    model: Brightness,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """It would use up the tries of all images that it receives."""
    decoder = Mock()
    decoder.wait_until_ready.side_effect = CannotStart("a decoder cannot start")
    monkeypatch.setattr(program, "Decoder", lambda _: decoder)
    monkeypatch.setattr("sys.argv", ["worker"])
    monkeypatch.setattr(program.WorkerSettings, "from_environment", lambda: settings)
    monkeypatch.setattr(program, "make_worker_clients", lambda _: WorkerClients(aws.s3, aws.sqs))
    monkeypatch.setattr(program, "load_classifier", lambda *_: model)
    worked: list[object] = []
    monkeypatch.setattr(program, "work", lambda *given: worked.append(given) or 0)
    assert program.main() == 2
    assert not worked
    assert "a decoder cannot start" in capsys.readouterr().err


def test_a_worker_whose_decoders_start_no_more_ends(
    make_loop: Callable[[], Consumer],
    ask: Callable[..., list[ImageId]],
    outputs: OutputBucket,
    monkeypatch: pytest.MonkeyPatch,
):
    loop, stop = make_loop(), Event()
    [decoder] = loop.pipeline.decoders
    decoder.command = ("false",)
    decoder._restart()
    ended: list[int] = []

    def end(status: int) -> None:
        ended.append(status)
        loop.held.settle()  # nothing more is heard of this process
        stop.set()

    monkeypatch.setattr("worker.threads.os._exit", end)
    [one] = ask(grey(250))
    loop.run(stop)
    assert ended == [EXIT_STATUS]
    assert outputs.get_prediction(one) is None
