from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cloud.worker_reports import WorkerReport, WorkerReports
from controller.autoscaling import instance_ledger
from controller.autoscaling.boots import Call
from controller.autoscaling.ec2_fleet import Instance
from controller.autoscaling.fleet_state import IMAGES_TO_LEARN_FROM, FleetState, Launched
from controller.autoscaling.instance_ledger import STRAY_SECONDS, InstanceLedger, instance_seconds


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def instance(instance_id, state="running", seconds=10.0, reason="", request_id="abc") -> Instance:
    return Instance(instance_id, "w", state, "c7i.large", "on-demand", ago(seconds), request_id, reason)


def state(**launched_seconds_ago: float) -> FleetState:
    names = {name.replace("_", "-"): seconds for name, seconds in launched_seconds_ago.items()}
    return FleetState(launched={name: Launched(at=ago(s), request_id="abc") for name, s in names.items()})


@pytest.fixture
def reports(state) -> WorkerReports:
    return WorkerReports(state)


@pytest.fixture
def ledger(reports) -> InstanceLedger:
    return InstanceLedger(reports)


@pytest.fixture
def report(reports):
    def put(instance_id: str, images: int = 0, ready_ago: float = 0, **more) -> None:
        reports.put(
            WorkerReport(
                instance_id=instance_id,
                model="resnet18",
                ready_at=ago(ready_ago),
                seen_at=ago(0),
                images=images,
                **more,
            )
        )

    return put


def test_an_instance_that_nobody_noted_is_taken_into_the_books(ledger):
    books = FleetState()
    (observed,) = ledger.update(books, [instance("i-1", seconds=40, request_id="r")])
    assert (observed.instance_id, observed.request_id, observed.ready) == ("i-1", "r", False)
    assert books.launched["i-1"].request_id == "r"
    assert 39 < (datetime.now(UTC) - books.launched["i-1"].at).total_seconds() < 45


def test_an_instance_that_ended_long_ago_is_none_of_the_books_business(ledger):
    books = FleetState()
    ledger.update(books, [instance("i-1", "terminated")])
    assert books == FleetState()


def test_an_end_is_booked_once_with_its_seconds_and_its_images(ledger, reports, report):
    books = state(i_1=100)
    report("i-1", images=42)
    for _ in range(2):
        ledger.update(books, [instance("i-1", "terminated")])
        ledger.delete_reports(books)
    assert books.launched == {}
    assert 99 < books.ended_seconds < 110
    assert books.ended_images == 42
    assert books.not_ready == []
    assert reports.seen() == {}


def test_an_instance_that_ec2_has_forgotten_is_booked_until_its_last_report(ledger, report, monkeypatch):
    """The controller may have been switched off for a day since the instance ended."""
    books = state(i_1=90_000, i_2=90_000)
    report("i-1", images=42)
    monkeypatch.setattr(ledger.reports, "seen", lambda: {"i-1": ago(86_000)})
    ledger.update(books, [])
    assert books.launched == {}
    assert books.ended_seconds == pytest.approx(4_000 + 60, abs=5)
    assert books.ended_images == 42


@pytest.mark.parametrize("how", ["terminated", "stopped"])
@pytest.mark.parametrize(("reported", "seconds"), [(True, 4_100), (False, 4_000)])
def test_an_end_while_no_controller_ran_is_booked_until_the_instance_was_last_known_to_run(
    ledger, report, monkeypatch, how, reported, seconds
):
    """The controller may have been switched off for a night, and a stopped instance stays."""
    books = state(i_1=40_000)
    books.ran_at = ago(36_000)
    if reported:
        report("i-1", images=42)
        monkeypatch.setattr(ledger.reports, "seen", lambda: {"i-1": ago(35_900)})
    ledger.update(books, [instance("i-1", how, seconds=40_000)])
    assert books.launched == {}
    assert books.ended_seconds == pytest.approx(seconds, abs=5)
    for stopped in books.stopped.values():
        assert (ago(0) - stopped.since).total_seconds() == pytest.approx(40_000 - seconds, abs=5)


@pytest.mark.parametrize(("ending", "ended"), [("shutting-down", "terminated"), ("stopping", "stopped")])
def test_an_instance_is_billed_from_when_it_runs_until_it_begins_to_end(ledger, monkeypatch, ending, ended):
    """EC2 bills neither `pending` nor `shutting-down` and `stopping`."""
    began, one = ago(0), instance("i-1", seconds=0)
    books = FleetState(launched={"i-1": Launched(at=began, request_id="abc")})
    for seconds, shown, running in [
        (15, "pending", 60),
        (20, "running", 60),
        (115, "running", 100),
        (215, ending, 200),
        (260, ending, 200),
        (275, ended, 200),
        (400, ended, 200),
    ]:
        monkeypatch.setattr(instance_ledger, "now", lambda: began + timedelta(seconds=seconds))  # noqa: B023
        ledger.update(books, [replace(one, state=shown)])
        assert instance_seconds(books) == pytest.approx(running, abs=0.1)
    assert books.launched == {}
    assert [stopped.since for stopped in books.stopped.values()] == [began + timedelta(seconds=215)] * (
        ended == "stopped"
    )


def test_an_end_is_booked_with_its_calls(ledger, report):
    books = state(i_1=100)
    books.calls.update(s3_get=1, sqs=2)
    report("i-1", calls=Counter(s3_get=5, s3_put=7))
    for _ in range(2):
        ledger.update(books, [instance("i-1", "terminated")])
    assert books.calls == {"s3_get": 6, "s3_put": 7, "sqs": 2}


def test_an_instance_that_shuts_down_may_still_report_its_last_images(ledger, reports, report):
    """Draining takes a while; a report that came after the books were closed would stay for ever."""
    books = state(i_1=100)
    report("i-1", images=3)
    ledger.update(books, [instance("i-1", "shutting-down")])
    report("i-1", images=5)
    ledger.update(books, [instance("i-1", "terminated")])
    ledger.delete_reports(books)
    assert books.ended_images == 5
    assert reports.seen() == {}


def test_a_report_stays_until_the_books_that_have_its_figures_are_saved(ledger, reports, report):
    report("i-1", images=42)
    for _ in range(2):
        lost = state(i_1=100)
        ledger.update(lost, [instance("i-1", "terminated")])
        assert (lost.ended_images, lost.not_ready) == (42, [])
    ledger.delete_reports(lost)
    assert reports.seen() == {}


def test_a_report_of_an_instance_that_is_in_no_books_goes_after_a_while(ledger, reports, report, monkeypatch):
    """The process that recorded its end died before it deleted the report."""
    report("i-1")
    books = state(i_2=10)
    for ahead, left in [(0, ["i-1"]), (STRAY_SECONDS + 1, [])]:
        monkeypatch.setattr(instance_ledger, "now", lambda ahead=ahead: ago(-ahead))
        ledger.update(books, [instance("i-2")])
        ledger.delete_reports(books)
        assert list(reports.seen()) == left


def test_an_instance_that_shuts_down_takes_nobodys_place(ledger):
    books = state(i_1=100)
    instances = [instance("i-1", "shutting-down")]
    ledger.update(books, instances)
    assert ledger.unseen(books, instances) == 0


def test_an_instance_that_ended_before_it_was_ready_is_remembered(ledger, caplog):
    books = state(i_1=20)
    ledger.update(books, [instance("i-1", "terminated", reason="Client.InstanceInitiatedShutdown")])
    assert books.not_ready == ["i-1"]
    assert "i-1 ended before its worker was ready" in caplog.text


def test_one_that_a_controller_ended_is_no_failure(ledger):
    books = state(i_1=20)
    books.launched["i-1"].ending = True
    ledger.update(books, [instance("i-1", "terminated", reason="Client.UserInitiatedShutdown")])
    assert books.not_ready == []


def test_one_that_aws_took_away_is_no_failure(ledger):
    books = state(i_1=20)
    ledger.update(books, [instance("i-1", "terminated", reason="Server.SpotInstanceTermination")])
    assert books.not_ready == []


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("Server.InsufficientInstanceCapacity", 0),
        ("Server.InternalError", 0),
        ("Client.InternalError", 0),
        ("Client.VolumeLimitExceeded", 0),
        ("Server.SpotInstanceTermination", 60),
        ("Client.InstanceInitiatedShutdown", 60),
    ],
)
def test_an_instance_that_never_came_to_run_costs_nothing(ledger, reason, seconds):
    """Without capacity, EC2 may end each launch of a whole fleet so, every 15 s."""
    books = state(i_1=20)
    ledger.update(books, [instance("i-1", "terminated", reason=reason)])
    assert (books.launched, books.ended_seconds) == ({}, seconds)


def test_an_instance_that_is_not_shown_yet_counts(ledger):
    books = state(i_1=5, i_2=5)
    instances = [instance("i-2")]
    assert [i.instance_id for i in ledger.update(books, instances)] == ["i-2"]
    assert ledger.unseen(books, instances) == 1
    assert set(books.launched) == {"i-1", "i-2"}


def test_an_instance_that_is_never_shown_is_given_up(ledger):
    books = state(i_1=61)
    ledger.update(books, [])
    assert books.launched == {}
    assert ledger.unseen(books, []) == 0


def test_the_planner_learns_the_age_of_each_instance_and_whether_it_is_ready(ledger, report):
    books = state(i_1=200, i_2=100)
    report("i-2")
    first, second = ledger.update(books, [instance("i-1", "pending"), instance("i-2")])
    assert (first.age, first.ready, first.silent) == (pytest.approx(200, abs=5), False, 0)
    assert (second.age, second.ready, second.silent) == (
        pytest.approx(100, abs=5),
        True,
        pytest.approx(0, abs=5),
    )


def test_the_planner_learns_which_instances_are_being_terminated_or_cannot_be(ledger):
    books = state(i_1=10, i_2=10)
    books.launched["i-1"].ending, books.launched["i-2"].not_asked_before = True, ago(-5)
    first, second = ledger.update(books, [instance("i-1"), instance("i-2")])
    assert (first.ending, first.protected, first.stays) == (True, False, False)
    assert (second.ending, second.protected, second.stays) == (False, True, False)


def test_one_that_is_ready_clears_the_failures(ledger, report):
    books = state(i_2=5)
    books.not_ready = ["i-0", "i-1"]
    ledger.update(books, [instance("i-2")])
    assert books.not_ready == ["i-0", "i-1"]
    report("i-2")
    ledger.update(books, [instance("i-2")])
    assert books.not_ready == []


def test_a_worker_that_was_started_by_hand_clears_nothing(ledger, report):
    books = state(i_2=5)
    books.not_ready = ["i-0", "i-1"]
    report("laptop-4711")
    ledger.update(books, [instance("i-2")])
    assert books.not_ready == ["i-0", "i-1"]


def test_how_long_a_boot_takes_is_learned_once_from_each(ledger, report):
    books = state(i_1=100, i_2=50)
    report("i-1", ready_ago=60)
    for _ in range(3):
        ledger.update(books, [instance("i-1"), instance("i-2")])
    assert books.boot_seconds == pytest.approx(40, abs=5)
    assert [books.launched[i].ready for i in ("i-1", "i-2")] == [True, False]
    report("i-2", ready_ago=0)
    ledger.update(books, [instance("i-1"), instance("i-2")])
    assert 40 < books.boot_seconds < 50, "the last one counts most, but not alone"


def test_no_report_stops_the_books(ledger, reports, state):
    books = FleetState(launched={"i-1": Launched(at=ago(30), request_id="abc")})
    state.write("workers/i-1", b'{"instance_id": "i-1"')
    (observed,) = ledger.update(books, [instance("i-1")])
    assert observed.ready
    ledger.update(books, [instance("i-1", "terminated")])
    assert (books.launched, books.ended_images) == ({}, 0)


def test_a_worker_that_says_it_was_ready_in_a_thousand_years_took_no_longer_than_until_now(ledger, report):
    books = state(i_1=30)
    report("i-1", ready_ago=-1e10)
    ledger.update(books, [instance("i-1")])
    assert 29 < books.boot_seconds < 40


def test_an_empty_fleet_costs_no_call(ledger, aws, on_call):
    on_call(aws.s3, "*", lambda params: pytest.fail("S3 was called"))
    assert ledger.update(FleetState(), []) == []


def test_to_learn_the_speed_of_a_large_fleet_takes_few_calls(ledger, report, aws, on_call):
    """A run of the autoscaler may act only while its lease lasts."""
    books = FleetState()
    names = [f"i-{number}" for number in range(200)]
    for name in names:
        report(name, images=IMAGES_TO_LEARN_FROM - 1, busy_seconds=1)
    active = ledger.update(books, [instance(name) for name in names])
    read: list[str] = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    ledger.learn_speed(books, active)
    assert books.full_speed is None
    assert len(read) <= 10


@pytest.mark.parametrize("state_of_all", ["running", "terminated", "stopped", "gone"])
def test_a_large_fleet_is_booked_in_several_runs(ledger, report, aws, on_call, monkeypatch, state_of_all):
    """Two processes would else take the lease from each other for ever, and neither would launch anything."""
    names = [f"i-{number}" for number in range(25)]
    known = Launched(at=ago(90), request_id="abc", ready=state_of_all != "running")
    books = FleetState(launched={name: known.model_copy() for name in names})
    for name in names:
        report(name, images=1, busy_seconds=1)
    monkeypatch.setattr(instance_ledger, "LAUNCH_LAG_SECONDS", -1)
    monkeypatch.setattr(instance_ledger, "BOOKED_AT_ONCE", 10)
    shown = [] if state_of_all == "gone" else [instance(name, state_of_all) for name in names]
    read: list[str] = []
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    for runs in (1, 2, 3):
        active = ledger.update(books, shown)
        assert len(read) <= runs * 10
    assert len(set(read)) == len(read) == 25
    if active:
        assert all(launched.ready for launched in books.launched.values())
    else:
        assert (books.launched, books.ended_images) == ({}, 25)


def test_the_speed_is_learned_although_only_the_youngest_worker_has_much_to_do(ledger, report):
    books = FleetState()
    names = [f"i-{number}" for number in range(20)]
    for name in names:
        report(name, images=IMAGES_TO_LEARN_FROM if name == names[-1] else 1, busy_seconds=1)
    active = ledger.update(books, [instance(name) for name in names])
    for _ in range(50):
        ledger.learn_speed(books, active)
    assert books.full_speed == IMAGES_TO_LEARN_FROM


def test_images_that_failed_without_the_model_tell_nothing_of_the_speed_of_a_worker(ledger, report):
    """Those of a batch that the worker may not read fail by the thousand in a second."""
    books = FleetState()
    one = instance("i-1")
    report("i-1", images=100_000, busy_seconds=50, classified=IMAGES_TO_LEARN_FROM - 1)
    ledger.learn_speed(books, ledger.update(books, [one]))
    assert books.full_speed is None
    ledger.update(books, [replace(one, state="terminated")])
    assert (books.full_speed, books.ended_images) == (None, 100_000)


def test_a_worker_that_reports_no_more_is_silent_for_ever_longer(ledger, report, monkeypatch):
    report("i-1")
    later = datetime.now(UTC) + timedelta(seconds=90)
    monkeypatch.setattr(instance_ledger, "now", lambda: later)
    reported, never = ledger.update(state(i_1=100, i_2=100), [instance("i-1"), instance("i-2")])
    assert (reported.silent, never.silent) == (pytest.approx(90, abs=5), 0)


# Stopped and started again


def started(seconds_ago: float, **more) -> FleetState:
    """The state after the start of a stopped instance, i-1."""
    return FleetState(launched={"i-1": Launched(at=ago(seconds_ago), request_id="abc", started=True, **more)})


def test_a_stop_is_booked_like_an_end_and_the_report_goes(ledger, reports, report):
    books = state(i_1=100)
    report("i-1", images=42)
    ledger.update(books, [instance("i-1")])
    assert ledger.update(books, [instance("i-1", "stopping")]) == []
    ledger.update(books, [instance("i-1", "stopped", reason="Client.UserInitiatedShutdown")])
    ledger.delete_reports(books)
    assert books.launched == {}
    assert 99 < books.ended_seconds < 110
    assert (books.ended_images, books.not_ready, reports.seen()) == (42, [], {})
    assert books.stopped["i-1"].usable


def test_a_short_life_before_a_stop_costs_a_minute(ledger, report):
    books = state(i_1=5)
    report("i-1")
    ledger.update(books, [instance("i-1", "stopped")])
    assert books.ended_seconds == 60


def test_an_instance_that_was_stopped_before_its_worker_was_ready_is_not_usable(ledger):
    books = state(i_1=5)
    ledger.update(books, [instance("i-1", "stopped")])
    assert not books.stopped["i-1"].usable
    assert books.not_ready == []


def test_the_report_from_before_the_stop_makes_no_started_instance_ready_or_silent(ledger, report):
    """It is still there when the process died before it deleted it."""
    books = started(5)
    report("i-1", images=42)
    for state_of_ec2, launched_ago in [("stopped", 500), ("pending", -1), ("running", -1)]:
        ledger.update(books, [instance("i-1", state_of_ec2, seconds=launched_ago)])
        assert ledger.unseen(books, [instance("i-1", state_of_ec2)]) == int(state_of_ec2 == "stopped")
        assert not books.launched["i-1"].ready
    (observed,) = ledger.update(books, [instance("i-1", seconds=-1)])
    assert (observed.ready, observed.silent) == (False, 0)
    assert books.start_seconds is None


def test_a_started_instance_that_ends_does_not_count_its_former_report_again(ledger, report):
    books = started(5)
    report("i-1", images=42)
    ledger.update(books, [instance("i-1", seconds=-1)])
    ledger.update(books, [instance("i-1", "terminated", seconds=-1)])
    assert books.ended_images == 0
    assert books.not_ready == ["i-1"]


def test_how_long_a_start_takes_is_learned_beside_how_long_a_boot_takes(ledger, report):
    books = started(20)
    books.boot_seconds = 60
    report("i-1", ready_ago=8)
    ledger.update(books, [instance("i-1", seconds=20)])
    assert books.start_seconds == pytest.approx(12, abs=3)
    assert books.boot_seconds == 60


def test_an_instance_that_was_stopped_and_started_unseen_begins_a_new_life(ledger, report):
    """A process told it to stop; another one started it, and died before it could save that."""
    books = state(i_1=500)
    report("i-1", images=42)
    first = instance("i-1", seconds=500)
    ledger.update(books, [first])
    books.launched["i-1"].ending = books.launched["i-1"].stopping = True
    (observed,) = ledger.update(books, [instance("i-1", seconds=-1)])
    assert (observed.stays, observed.ready) == (True, False)
    assert observed.age < 5
    assert books.launched["i-1"].started
    assert 499 < books.ended_seconds < 510
    assert books.ended_images == 42


def test_a_stop_and_a_start_while_no_controller_ran_are_no_time_that_is_billed_twice(ledger, report):
    """A schedule stops all machines of the account in the evening, and starts them in the morning."""
    first = instance("i-1", seconds=40_000)
    books = state(i_1=40_000)
    report("i-1", images=42)
    ledger.update(books, [first])
    books.ran_at = ago(36_000)
    ledger.update(books, [replace(first, launched_at=ago(100))])
    assert (books.ended_seconds, books.ended_images) == (pytest.approx(4_000, abs=5), 0)
    assert instance_seconds(books) == pytest.approx(4_100, abs=5)


def test_the_report_of_an_instance_that_was_started_meanwhile_stays(ledger, reports, report):
    books = state(i_1=100)
    report("i-1")
    ledger.update(books, [instance("i-1", "stopped")])
    books.note_start("i-1", "abc", Call(called_at=ago(0), answered_at=ago(0)))
    ledger.delete_reports(books)
    assert list(reports.seen()) == ["i-1"], "perhaps it is that of the new life already"


def test_a_start_that_ec2_never_shows_ends_and_costs_nothing(ledger):
    books = started(5)
    ledger.update(books, [instance("i-1", "stopped")])
    assert "i-1" in books.launched
    books.launched["i-1"].at = ago(61)
    ledger.update(books, [instance("i-1", "stopped")])
    assert (books.launched, books.ended_seconds, books.not_ready) == ({}, 0, [])
    assert not books.stopped["i-1"].usable


def test_the_time_that_instances_were_stopped_adds_up(ledger, report):
    books = state(i_1=100, i_2=100)
    report("i-1")
    report("i-2")
    ledger.update(books, [instance("i-1", "stopped"), instance("i-2", "stopped")])
    for stopped in books.stopped.values():
        stopped.since = ago(50)
    books.note_start("i-1", "abc", Call(called_at=ago(0), answered_at=ago(0)))
    ledger.update(books, [instance("i-1", "pending"), instance("i-2", "terminated")])
    assert books.stopped == {}
    assert books.stopped_seconds == pytest.approx(100, abs=5)
