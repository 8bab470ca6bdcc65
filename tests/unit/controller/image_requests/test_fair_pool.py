from concurrent.futures import wait
from threading import Event, Thread

import pytest

from controller.image_requests.fair_pool import FairPool
from tests.support.submissions import submit


@pytest.fixture
def pool():
    with FairPool(1, "test") as made:
        yield made


def test_requests_take_turns_and_each_keeps_its_order(pool):
    begun, done = Event(), []
    first = pool.submit(begun.wait)  # keeps the only thread until all are submitted
    shares = {name: pool.share() for name in "abc"}
    steps = [
        shares[name].submit(done.append, f"{name}{n}")
        for name, count in (("a", 100), ("b", 2), ("c", 1))
        for n in range(count)
    ]
    begun.set()
    wait([first, *steps])
    assert done[:5] == ["a0", "b0", "c0", "a1", "b1"]
    assert done[5:] == [f"a{n}" for n in range(2, 100)]


def test_results_come_in_the_order_of_the_arguments():
    with FairPool(8, "test") as pool:
        assert list(pool.map(lambda a, b: a * b, range(200), range(200))) == [n * n for n in range(200)]


def test_an_exception_is_that_of_its_step_alone(pool):
    broken, other = pool.submit(int, "x"), pool.submit(int, "7")
    with pytest.raises(ValueError, match="x"):
        broken.result(10)
    assert other.result(10) == 7


def test_a_step_that_was_cancelled_does_not_run(pool):
    begun, done = Event(), []
    pool.submit(begun.wait)
    cancelled = pool.submit(done.append, "cancelled")
    kept = pool.submit(done.append, "kept")
    assert cancelled.cancel()
    begun.set()
    wait([cancelled, kept])
    assert done == ["kept"]


def test_without_a_thread_for_them_steps_run_in_that_of_their_caller(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with FairPool(2, "test") as pool:
        with monkeypatch.context() as host:
            host.setattr(Thread, "start", no_thread)
            assert list(pool.map(int, "12")) == [1, 2]
        assert pool.submit(int, "3").result(10) == 3


@pytest.mark.parametrize("act", ["submit", "read"])
def test_large_uploads_delay_nobody_beside_them(make, aws, on_call, act):
    """Four requests of 100 images are being uploaded. Another one must not wait for them all."""
    controller = make()
    earlier = submit(controller, "earlier.png")
    stored, go_on = [], Event()

    def note(params):
        if "large" in params["Key"]:
            go_on.wait()
            Event().wait(0.2)  # rather than to use the processor
            stored.append(params["Key"])

    def beside():
        if act == "submit":
            submit(controller, "a.png")
        else:
            controller.polling.stored.fetch(earlier.image_ids)
        seen.append(len(stored))

    on_call(aws.s3, "PutObject", note)
    names, seen = [f"large-{n}.png" for n in range(100)], []
    large = [Thread(target=submit, args=[controller, *names]) for _ in range(4)]
    for thread in large:
        thread.start()
    Event().wait(1)  # until all their steps are in the pool
    other = Thread(target=beside)
    other.start()
    Event().wait(0.2)
    go_on.set()
    for thread in [*large, other]:
        thread.join()
    assert seen[0] < 200
