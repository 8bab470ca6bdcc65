"""Whatever happens at a call of AWS: every image has one final answer, and no instance is left."""

import secrets
from collections.abc import Iterator
from threading import Event

import psutil
import pytest

from bench.faults.breaker import Breaker
from bench.faults.consequences import consequences
from bench.faults.each_call import MAX_RECEIVES, attack, summary, under_attack
from bench.faults.load import FILES, Clients, Seen
from local.driver import System, eventually

SAMPLE = 16
VISIBILITY_TIMEOUT = 4


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with under_attack(tmp_path_factory.mktemp("under-attack")) as system:
        yield system


@pytest.fixture
def breaker(system: System) -> Breaker:
    skew = system.output.parent / "skew.json"
    return Breaker(system, 1, Event(), VISIBILITY_TIMEOUT, skew)


@pytest.fixture
def ask(system: System):
    """Uploads until it is accepted, and waits for the answers. At the end, all must be as it should."""
    seen = Seen()
    clients = Clients(system, Event(), seen)

    def ask() -> None:
        clients.send(FILES, secrets.token_hex(8))
        eventually(lambda: all(clients.read(sent) for sent in seen.accepted), 90, every=0.2)

    yield ask
    found = consequences(system, seen, [], MAX_RECEIVES)
    assert found.good, found


def test_a_sample_of_the_attacks_on_each_call_loses_doubles_and_leaks_nothing(
    system: System, record_property
):
    """`make deaths` does all of them."""
    seen = Seen()
    run = attack(system, seen, sample=SAMPLE)
    found = consequences(system, seen, run.hits, MAX_RECEIVES)
    record_property("sample", summary(run, found))
    assert len(run.hit) >= SAMPLE // 2
    assert found.good, found


def test_a_holder_of_the_lease_that_stands_still_is_replaced_and_does_no_harm(system, breaker, ask):
    def stands_still() -> bool:
        return any(process.status() == psutil.STATUS_STOPPED for process in system.controllers())

    breaker.pause_the_lease_holder()
    ask()
    eventually(lambda: not stands_still(), 40)  # it goes on meanwhile
    ask()


def test_processes_whose_clocks_are_an_hour_wrong_work_as_ever(system, breaker, ask):
    breaker.skew.write_text('{"controller": 3600, "worker": -3600}')
    for controller in system.controllers():
        controller.kill()
    for _ in range(2):
        ask()
        eventually(lambda: not system.active(), 20)
