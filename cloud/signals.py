"""Told to stop by a signal."""

import signal
import time
from threading import Event

LOOK_SECONDS = 0.1


class SignalledEvent(Event):
    """One that a signal's handler may set. `Event.set` takes a lock, which the thread that is interrupted may
    hold: then it never returns. This one takes none, so who waits looks now and then.
    """

    _told = False

    def set(self) -> None:
        self._told = True

    def is_set(self) -> bool:
        return self._told

    def wait(self, timeout: float | None = None) -> bool:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._told and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
        return self._told


def stop_on(*numbers: signal.Signals) -> Event:
    """An event that any of these signals sets; but SIGHUP not under nohup, which has it ignored."""
    stop = SignalledEvent()
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    return stop
