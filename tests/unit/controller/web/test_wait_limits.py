import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from controller.web.wait_limits import MOST_ANSWERS, WaitLimits
from tests.support.web_client import post


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


def test_few_answers_are_read_from_s3_at_once_and_the_others_wait(idle, photo, monkeypatch):
    """Each may have 1,000 images, and take 15 MB."""
    url = post(idle, photo(), headers={"Prefer": "respond-async"}).json["url"]
    polling = idle.application.extensions["services"].polling
    read, reading, most = polling.read, [], []

    def slowly(request_id):
        reading.append(request_id)
        most.append(len(reading))
        time.sleep(0.2)
        reading.pop()
        return read(request_id)

    monkeypatch.setattr(polling, "read", slowly)
    monkeypatch.setattr(polling, "watched", lambda request_id: None)
    with ThreadPoolExecutor(2 * MOST_ANSWERS) as pool:
        replies = pool.map(lambda _: idle.application.test_client().get(url), range(2 * MOST_ANSWERS))
        assert {reply.status_code for reply in replies} == {200}
    assert max(most) <= MOST_ANSWERS


def test_an_answer_that_the_process_knows_waits_for_none_from_s3(idle, photo):
    url = post(idle, photo(), headers={"Prefer": "respond-async"}).json["url"]
    with ExitStack() as held:
        for _ in range(MOST_ANSWERS):
            held.enter_context(idle.application.extensions["services"].wait_limits.of_answer())
        assert idle.get(url).json["counts"]["waiting"] == 1


def test_who_waits_for_the_answers_of_others_in_vain_is_told(idle, monkeypatch):
    services = idle.application.extensions["services"]
    monkeypatch.setattr("controller.web.wait_limits.ANSWER_SECONDS", 0.1)
    with ExitStack() as held:
        for _ in range(MOST_ANSWERS):
            held.enter_context(services.wait_limits.of_answer())
        reply = idle.get(f"/requests/{services.request_ids.new()}")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")
    assert "Too many answers are being read" in reply.text
