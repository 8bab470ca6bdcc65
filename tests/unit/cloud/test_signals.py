import os
import signal
import subprocess
import sys
from threading import Timer
from time import monotonic

from cloud.signals import SignalledEvent

TOLD_WHILE_IT_SETS = """
import os, signal
from cloud.signals import stop_on

stop = stop_on(signal.SIGTERM, signal.SIGHUP)
told, parent = 0, os.getpid()
for _ in range(2000):  # each may come while the last one is dealt with, or while the wait begins or ends
    os.kill(parent, signal.SIGTERM)
    stop.wait(0)
print(stop.is_set(), stop.wait(60))
os.kill(parent, signal.SIGHUP)
"""


def run(*before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", TOLD_WHILE_IT_SETS]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_signals_that_come_at_once_end_the_wait():
    ended = run()
    assert (ended.returncode, ended.stdout) == (0, "True True\n")


def test_a_handler_may_interrupt_whoever_holds_the_lock():
    event = SignalledEvent()
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    try:
        with event._cond:  # type: ignore[attr-defined] - as inside of `wait` and `set`
            os.kill(os.getpid(), signal.SIGUSR1)
            assert event.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_wait_ends_in_time_with_or_without_being_told():
    event = SignalledEvent()
    began = monotonic()
    assert event.wait(0.05) is False
    Timer(0.05, event.set).start()
    assert event.wait() is True
    assert event.wait(60) is True
    assert monotonic() - began < 30
