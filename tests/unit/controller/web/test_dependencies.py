import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from controller.web.dependencies import Dependencies


class Silent:
    def __init__(self):
        self.looks = 0
        self.answers = Event()

    def check(self):
        self.looks += 1
        self.answers.wait(20)


class There:
    def check(self):
        pass


@pytest.fixture
def silent():
    found = Silent()
    yield found
    found.answers.set()


def test_nobody_waits_long_for_an_aws_that_does_not_answer(silent):
    """Anybody may ask, and each one who waits holds a thread of the web server."""
    dependencies = Dependencies({"queue": silent, "bucket": There()})
    began = time.monotonic()
    with ThreadPoolExecutor(10) as callers:
        found = [asked.result() for asked in [callers.submit(dependencies.problems) for _ in range(10)]]
    assert time.monotonic() - began < 10
    assert found == [{"queue": "AWS does not answer"}] * 10
    began = time.monotonic()
    assert dependencies.problems() == {"queue": "AWS does not answer"}
    assert time.monotonic() - began < 1
    assert silent.looks == 1
