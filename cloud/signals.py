"""Turns signals such as SIGTERM into an event that a program can wait for."""

import signal
import time
from threading import Event

CHECK_SECONDS = 0.1  # how often `wait` checks whether the event is set


class SignalledEvent(Event):
    """An event that a signal handler may set.

    `Event.set` acquires a lock. If the handler interrupts a thread that holds this lock, it never returns.
    This class uses no lock, so its `wait` has to check repeatedly whether the event is set.
    """

    _signalled = False

    def set(self) -> None:
        self._signalled = True

    def is_set(self) -> bool:
        return self._signalled

    def wait(self, timeout: float | None = None) -> bool:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._signalled and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_SECONDS))
        return self._signalled


def stop_on(*numbers: signal.Signals) -> Event:
    """Returns an event that is set by any of these signals.

    SIGHUP remains ignored if it is ignored already, as it is for a program that was started with nohup.
    """
    stop = SignalledEvent()
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    return stop
