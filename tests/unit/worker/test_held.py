import time
from threading import Thread

from local.driver import eventually
from worker.held import AHEAD_SECONDS, FEWEST, MOST, BusyTime, ByteBudget, HeldImages


def receive(held: HeldImages, images: int) -> bool:
    if not held.reserve(images, 0):
        return False
    held.receive(images, images)
    return True


def settle(held: HeldImages, images: int) -> None:
    for _ in range(images):
        held.settle()


def test_a_worker_that_has_settled_nothing_yet_holds_few():
    held = HeldImages(BusyTime())
    assert receive(held, FEWEST)
    assert not receive(held, 1)


def test_a_fast_worker_holds_what_it_settles_in_half_a_second_and_less_again_later():
    held = HeldImages(BusyTime())
    for _ in range(5):
        assert receive(held, FEWEST)
        settle(held, FEWEST)
    assert receive(held, 5 * FEWEST)
    assert not receive(held, 1)
    settle(held, 5 * FEWEST)
    time.sleep(AHEAD_SECONDS)
    assert receive(held, FEWEST)
    assert not receive(held, 1)


def test_there_is_a_most_however_fast_it_is():
    held = HeldImages(BusyTime())
    for _ in range(20):
        assert receive(held, FEWEST)
        settle(held, FEWEST)
    assert receive(held, MOST)
    assert not receive(held, 1)


def test_room_that_was_reserved_in_vain_is_free_again():
    held = HeldImages(BusyTime())
    assert held.reserve(FEWEST, 0)
    assert not held.reserve(1, 0)
    held.receive(3, FEWEST)
    assert len(held) == 3
    assert held.reserve(FEWEST - 3, 0)


def test_whoever_waits_for_room_gets_it_when_there_is_some():
    held = HeldImages(BusyTime())
    assert receive(held, FEWEST)
    got: list[bool] = []
    waiting = Thread(target=lambda: got.append(held.reserve(10, 10)))
    waiting.start()
    settle(held, 10)
    waiting.join(10)
    assert got == [True]


def test_busy_are_the_seconds_with_an_image_in_hand():
    held = HeldImages(BusyTime())
    time.sleep(0.05)
    assert held.busy.seconds() == 0
    assert receive(held, 2)
    time.sleep(0.05)
    held.settle()
    first = held.busy.seconds()
    assert 0.05 <= first < 0.2
    time.sleep(0.05)
    held.settle()
    time.sleep(0.5)
    assert 0.05 <= held.busy.seconds() < 0.3
    assert held.busy.seconds() == 0


def test_bytes_are_shared_and_a_file_that_is_larger_than_all_of_them_goes_alone():
    budget, order = ByteBudget(100), []
    budget.take(60)
    budget.take(40)

    def take(amount: int) -> None:
        budget.take(amount)
        order.append(amount)

    large = Thread(target=take, args=[1000])
    large.start()
    budget.give(40)
    assert order == []
    budget.give(60)
    large.join(10)
    assert order == [1000]


def test_small_files_that_keep_coming_do_not_keep_out_a_large_one():
    budget, order = ByteBudget(100), []
    budget.take(60)

    def take(amount: int) -> None:
        budget.take(amount)
        order.append(amount)

    threads = [Thread(target=take, args=[amount], daemon=True) for amount in (50, 10)]
    for waiting, thread in enumerate(threads, start=1):
        thread.start()
        eventually(lambda waiting=waiting: len(budget.waiting) == waiting)
    budget.give(60)
    for thread in threads:
        thread.join(10)
    assert order == [50, 10]
