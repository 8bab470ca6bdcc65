"""A request is cancelled, or tried again, in the running system."""

from typing import Any

import requests

from local.driver import System, ask, eventually, stream
from tests.support.requests_of_users import events, fail, photos

BROWSER = {"Accept": "text/html"}


def read(address: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(address, timeout=10).json()
    return found


def backlog(system: System) -> int:
    return sum(requests.get(f"{system.url}fleet", timeout=10).json()["queue"].values())


def test_what_is_cancelled_calls_for_no_instance_and_no_model(system: System, no_capacity: None):
    launched = len(system.record()["instances"])
    address = ask(system, *photos())
    with stream(address) as followed:
        reply = requests.post(f"{address}/cancel", timeout=30)
        assert events(followed)[-1][2]["state"] == "done"
    assert reply.status_code == 200
    assert {image["error"]["code"] for image in reply.json()["images"]} == {"cancelled"}
    system.limit(None)
    eventually(lambda: not backlog(system))
    assert read(address) == reply.json()
    with_another = ask(system, *photos())  # whose workers would take what is left of the first one
    eventually(lambda: read(with_another)["complete"], 60)
    assert read(address) == reply.json()
    eventually(lambda: not system.active(), 60)
    assert len(system.record()["instances"]) > launched


def test_a_request_that_is_cancelled_while_it_is_worked_on_lets_its_instances_go(system: System):
    eventually(lambda: not system.active(), 60)
    address = ask(system, *photos())
    eventually(system.active, 30, every=0.01)
    reply = requests.post(f"{address}/cancel", timeout=30)
    assert reply.json()["complete"]
    eventually(lambda: not system.active(), 60)
    assert read(address)["counts"] == reply.json()["counts"]
    eventually(lambda: not backlog(system))


def test_what_failed_is_classified_when_a_person_tries_it_again(system: System, no_capacity: None):
    address = ask(system, *photos())
    [first, *_] = read(address)["images"]
    fail(system, first["image_id"])
    system.limit(None)
    answer = eventually(lambda: (found := read(address))["complete"] and found, 60)
    assert answer["images"][0]["error"]["code"] == "no_workers"

    def sent_again() -> bool:
        reply = requests.post(f"{address}/retry", headers=BROWSER, allow_redirects=False, timeout=30)
        assert reply.status_code in (303, 409)  # the request may not be closed yet
        return reply.status_code == 303 and reply.headers["Location"] in address

    eventually(sent_again)
    with stream(address) as followed:
        last = events(followed)[-1]
    assert last[2]["counts"] == {"waiting": 0, "classified": len(answer["images"]), "failed": 0}
    assert read(address)["images"][1:] == answer["images"][1:]
