"""Server-sent events of the running system, and what becomes of everybody else meanwhile."""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest
import requests

from local.driver import System, ask, eventually, stream
from tests.support.requests_of_users import events, photos

STREAMS = 300
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def waiting(system: System, no_capacity: None) -> str:
    """The address of a request that waits until there is capacity."""
    return ask(system, *photos())


def test_hundreds_of_open_streams_starve_nobody(system: System, waiting: str):
    with ExitStack() as opened, ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: opened.enter_context(stream(waiting)), range(STREAMS)))
        taken = [reply for reply in replies if reply.status_code == 200]
        refused = [reply for reply in replies if reply.status_code == 503]
        assert len(taken) >= 100
        assert len(taken) + len(refused) == STREAMS
        assert all(int(reply.headers["Retry-After"]) > 0 for reply in refused)

        assert requests.get(f"{system.url}healthz", timeout=20).ok
        assert requests.get(waiting, timeout=20).json()["wait"]["message"]
        uploads = list(pool.map(lambda _: ask(system, *photos()), range(20)))
        bad = system.post(("notes.txt", b"milk"))
        assert bad.json()["counts"]["failed"] == 1

        for reply in taken[:50]:
            reply.close()
        eventually(lambda: stream(waiting).status_code == 200, 60, every=0.5)

        system.limit(None)
        for last in pool.map(lambda reply: events(reply)[-1], taken[50:]):
            assert (last[0], last[2]["state"]) == ("state", "done")
    for address in uploads:
        eventually(lambda address=address: requests.get(address, timeout=10).json()["complete"], 60)


def test_a_stream_goes_on_with_the_next_process_and_holds_up_no_reload(system: System, waiting: str):
    [old] = system.controllers()
    with stream(waiting) as reply:
        assert reply.status_code == 200
        [arbiter] = system.arbiters()
        arbiter.send_signal(signal.SIGHUP)
        found = events(reply)
    eventually(lambda: not psutil.pid_exists(old.pid), 30)
    assert [name for name, _, _ in found] == ["state"] * len(found)
    system.limit(None)
    with stream(waiting, last=found[-1][1]) as reply:
        found = events(reply)
    images = [data["image_id"] for name, _, data in found if name == "image"]
    assert sorted(images) == sorted(i["image_id"] for i in requests.get(waiting, timeout=10).json()["images"])
    assert found[-1][2]["state"] == "done"
