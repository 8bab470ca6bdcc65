from contextlib import ExitStack

from controller.web.wait_limits import WaitLimits


def test_streams_take_half_of_the_threads_and_all_waits_together_leave_some():
    waits = WaitLimits(16)
    with ExitStack() as held:
        streams = [held.enter_context(waits.of_stream()) for _ in range(20)]
        requests = [held.enter_context(waits.of_request()) for _ in range(20)]
    assert streams == [True] * 8 + [False] * 12
    assert requests == [True] * 6 + [False] * 14


def test_requests_that_wait_may_take_the_room_of_streams():
    waits = WaitLimits(16)
    with ExitStack() as held:
        assert [held.enter_context(waits.of_request()) for _ in range(15)] == [True] * 14 + [False]
        assert not held.enter_context(waits.of_stream())


def test_what_ends_leaves_its_room_to_others():
    waits = WaitLimits(16)
    for _ in range(100):
        with waits.of_stream() as may, waits.of_request() as may_too:
            assert may
            assert may_too
