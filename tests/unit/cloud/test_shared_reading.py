from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from cloud.shared_reading import SharedReading
from local.driver import eventually


class Source:
    """Counts how often it is read. Each reading takes `seconds` of the clock."""

    def __init__(self, clock: list[float]):
        self.clock = clock
        self.seconds = 0.0
        self.readings = 0

    def read(self) -> int:
        self.clock[0] += self.seconds
        self.readings += 1
        return self.readings


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def source(clock) -> Source:
    return Source(clock)


@pytest.fixture
def shared(clock) -> SharedReading[int]:
    return SharedReading(10.0, 0.25, lambda: clock[0])


def test_a_reading_is_reused_until_it_is_too_old(shared, source, clock):
    assert [shared.get(source.read) for _ in range(3)] == [1, 1, 1]
    clock[0] += 9.9
    assert shared.get(source.read) == 1
    clock[0] += 0.1
    assert [shared.get(source.read) for _ in range(3)] == [2, 2, 2]


def test_a_slow_reading_is_reused_for_longer(shared, source, clock):
    source.seconds = 20.0
    shared.get(source.read)
    clock[0] += 59.9
    assert shared.get(source.read) == 1
    clock[0] += 0.1
    assert shared.get(source.read) == 2


def test_without_a_largest_share_a_slow_reading_is_reused_no_longer(source, clock):
    shared: SharedReading[int] = SharedReading(10.0, clock=lambda: clock[0])
    source.seconds = 20.0
    shared.get(source.read)
    clock[0] += 10.0
    assert shared.get(source.read) == 2


def test_threads_that_ask_at_once_share_a_reading(shared, source):
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: shared.get(source.read), range(100))) == {1}


class Door:
    """A lock that notes who comes to it."""

    def __init__(self) -> None:
        self.lock, self.came = Lock(), []

    def __enter__(self) -> None:
        self.came.append(1)
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_whoever_waits_for_a_reading_that_fails_does_not_wait_for_one_more(shared):
    over, readings = Event(), []
    shared._lock = door = Door()

    def fail():
        readings.append(1)
        over.wait(10)
        raise RuntimeError("S3 does not answer")

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(shared.get, fail) for _ in range(20)]
        eventually(lambda: len(door.came) == 20)
        over.set()
        assert {str(one.exception()) for one in asked} == {"S3 does not answer"}
    assert len(readings) == 1


def test_what_a_reading_raises_is_not_kept(shared, source, clock):
    def fail():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        shared.get(fail)
    assert shared.get(source.read) == 1
    clock[0] += 10.0
    with pytest.raises(RuntimeError, match="a bug"):
        shared.get(fail)
    assert shared.get(source.read) == 2
