from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud.shared_reading import SharedReading


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
