"""A pool of threads that takes the steps of several requests in turn, so that a large one delays no other."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

log = logging.getLogger(__name__)


class FairPool(Executor):
    """Each `share`, each call of `map` and each `submit` gets its turn after one step of each of the others.

    A lone request uses all threads. Threads may share the pool. Where the system has no thread left, a step
    runs in the thread of its caller.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns: deque[Share] = deque()
        self._lock = Lock()

    def share(self) -> "Share":
        """Returns an executor for the steps of one request."""
        return Share(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.share().submit(fn, *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Any, **how: Any) -> Any:
        return self.share().map(fn, *iterables, **how)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def add(self, share: "Share", step: Callable[[], None]) -> None:
        with self._lock:
            if not share.steps:
                self._turns.append(share)
            share.steps.append(step)
        try:
            self._threads.submit(self._take_next)
        except RuntimeError as error:
            log.warning("%s: the step runs in the thread of its caller", error)
            self._take_next()

    def _take_next(self) -> None:
        with self._lock:
            if not self._turns:
                return  # the threads of callers were faster
            share = self._turns.popleft()
            step = share.steps.popleft()
            if share.steps:
                self._turns.append(share)
        step()


class Share(Executor):
    """Runs the steps of one request in the threads of a FairPool, in their order."""

    def __init__(self, pool: FairPool) -> None:
        self.pool = pool
        self.steps: deque[Callable[[], None]] = deque()
        """Those that have not begun. Only the pool changes it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def step() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.pool.add(self, step)
        return future


def finish(steps: Sequence[Future[Any]]) -> None:
    """Waits until all steps are done. When one fails, cancels those that have not begun, and raises."""
    _, rest = wait(steps, return_when=FIRST_EXCEPTION)
    for step in rest:
        step.cancel()
    wait(rest)
    for step in steps:
        if not step.cancelled():
            step.result()
