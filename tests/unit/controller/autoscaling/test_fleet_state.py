import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from threading import Lock, Thread

import pytest

from cloud.errors import CloudError, Conflict, NotFound
from controller.autoscaling.fleet_state import DECISIONS_KEPT, Decision, FleetState, Launched
from controller.autoscaling.shared_state import KEY, LEASE_SECONDS, Busy, SharedState


class MemoryBucket:
    """One object, written conditionally and atomically as in S3, whose clock the test sets."""

    name = "memory"

    def __init__(self):
        self.object, self.clock, self.lock = None, 0.0, Lock()

    def read_aged(self, key):
        with self.lock:
            if self.object is None:
                raise NotFound(f"no {key}")
            body, etag, written_at = self.object
            return body, etag, timedelta(seconds=int(self.clock - written_at))

    def write(self, key, body, IfMatch=None, IfNoneMatch=None, ContentType=None):
        with self.lock:
            there = self.object and self.object[1]
            if IfMatch != there or (IfNoneMatch == "*" and there):
                raise Conflict("somebody else wrote first")
            etag = str(int(there or 0) + 1)
            self.object = body, etag, self.clock
            return etag


@pytest.fixture
def bucket():
    return MemoryBucket()


@pytest.fixture
def shared(bucket):
    return SharedState(bucket)


def decision(**changes) -> Decision:
    return Decision(
        **{"at": datetime.now(UTC), "by": "host/1", "seen": {"visible": 1}, "wanted": 1, **changes}
    )


def test_what_one_holder_changes_the_next_one_sees(shared):
    with shared.hold(0) as lease:
        lease.state.launch_failures = 2
        lease.state.launched["i-1"] = Launched(at=datetime.now(UTC), request_id="abc")
    with shared.hold(0) as lease:
        assert lease.state.launch_failures == 2
        assert lease.state.launched["i-1"].request_id == "abc"
    assert shared.peek().holder is None


def test_it_works_on_s3s_own_conditional_writes(state):
    shared = SharedState(state)
    with shared.hold(0) as lease:
        lease.state.ended_images = 5
        with pytest.raises(Busy), SharedState(state).hold(0):
            pytest.fail("two holders")
    with SharedState(state).hold(0) as lease:
        assert lease.state.ended_images == 5


def test_a_dead_holders_lease_ends_by_s3s_clock(state, s3_clock):
    with ExitStack() as dead:
        dead.enter_context(SharedState(state).hold(0))
        with pytest.raises(Busy), SharedState(state).hold(0):
            pytest.fail("two holders")
        s3_clock.ahead = LEASE_SECONDS + 2
        with SharedState(state).hold(0):
            pass


def test_while_one_holds_it_the_others_are_told_that_it_is_busy(shared):
    with shared.hold(0):
        started = time.monotonic()
        with pytest.raises(Busy), shared.hold(0.2):
            pytest.fail("two holders")
        assert 0.2 <= time.monotonic() - started < 10


def test_who_waits_long_looks_ever_more_seldom(shared, bucket, monkeypatch):
    """Else the calls of many hosts that wait for each other grow with the square of their number."""
    looks, read = [], bucket.read_aged
    monkeypatch.setattr(bucket, "read_aged", lambda key: looks.append(key) or read(key))
    with shared.hold(0):
        looks.clear()
        with pytest.raises(Busy), shared.hold(2.5):
            pytest.fail("it is held")
    assert 3 <= len(looks) <= 10


def test_who_waits_gets_it_when_it_is_free(shared):
    got = []

    def wait_for_it():
        with shared.hold(10):
            got.append(True)

    with shared.hold(0):
        thread = Thread(target=wait_for_it)
        thread.start()
        assert not got
    thread.join(5)
    assert got


def test_of_many_threads_that_race_for_it_never_two_hold_it(bucket):
    inside, most, rounds = [], [], []

    def race():
        for _ in range(3):
            with SharedState(bucket).hold(60) as lease:
                inside.append(1)
                most.append(len(inside))
                lease.state.ended_images += 1
                time.sleep(0.001)  # another thread's turn
                inside.pop()
            rounds.append(1)

    threads = [Thread(target=race) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rounds) == 30
    assert max(most) == 1
    assert SharedState(bucket).peek().ended_images == 30, "nobody's change is lost"


def test_of_many_that_race_for_a_dead_holders_lease_one_wins(bucket):
    won, lost = [], []
    stay = ExitStack()
    stay.enter_context(SharedState(bucket).hold(0))
    bucket.clock = LEASE_SECONDS + 1

    def race():
        try:
            won.append(stay.enter_context(SharedState(bucket).hold(0)))
        except Busy:
            lost.append(1)

    threads = [Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(won), len(lost)) == (1, 15)
    stay.pop_all()


def test_a_lease_is_not_over_before_its_time(bucket):
    with ExitStack() as holder:
        holder.enter_context(SharedState(bucket).hold(0))
        bucket.clock = LEASE_SECONDS
        with pytest.raises(Busy), SharedState(bucket).hold(0):
            pytest.fail("two holders")


def test_a_holder_that_took_too_long_does_not_overwrite_the_next_one(bucket, caplog):
    with SharedState(bucket).hold(0) as slow:
        slow.state.ended_images = 1
        bucket.clock = LEASE_SECONDS + 1
        with SharedState(bucket).hold(0) as next_one:
            next_one.state.ended_images = 7
    assert SharedState(bucket).peek().ended_images == 7
    assert "took longer than its lease" in caplog.text


def test_a_look_that_fails_gives_the_lease_back_with_what_it_had_noted(shared):
    def look() -> None:
        with shared.hold(0) as lease:
            lease.state.launch_failures = 1
            raise CloudError("EC2 is down")

    with pytest.raises(CloudError, match="EC2 is down"):
        look()
    with shared.hold(0) as lease:
        assert lease.state.launch_failures == 1


def test_a_write_whose_reply_was_lost_and_that_was_repeated_does_not_lock_its_writer_out(bucket):
    """botocore repeats it, S3 refuses the repetition: the lease is ours all the same."""

    class LostReply(MemoryBucket):
        lose = True

        def write(self, key, body, **conditions):
            etag = super().write(key, body, **conditions)
            if self.lose:
                self.lose = False
                raise Conflict("the repetition came second")
            return etag

    shared = SharedState(LostReply())
    with shared.hold(1) as lease:
        lease.state.ended_images = 3
    assert shared.peek().ended_images == 3


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"launched": 7}', b"\xff\xfe"])
def test_a_broken_object_is_replaced_by_a_new_state(state, junk, caplog):
    state.write(KEY, junk)
    with SharedState(state).hold(0) as lease:
        assert lease.state.launched == {}
        lease.state.ended_images = 1
    assert SharedState(state).peek().ended_images == 1
    assert "s3://test-output-state/fleet/state is broken" in caplog.text


def test_a_state_of_a_later_version_is_read(state):
    state.write(KEY, b'{"ended_images": 4, "something_new": true}')
    assert SharedState(state).peek().ended_images == 4


def test_to_peek_is_to_write_nothing(shared, bucket):
    assert shared.peek() == FleetState()
    assert bucket.object is None


@pytest.mark.parametrize(("seconds", "may"), [(0, True), (7, True), (9, False), (30, False)])
def test_a_launch_must_start_early_enough_to_end_within_the_lease(bucket, seconds, may):
    time_ = [1000.0]
    with SharedState(bucket, lambda: time_[0]).hold(0) as lease:
        time_[0] += seconds
        assert lease.may_act() is may


def test_the_last_decisions_are_kept():
    state = FleetState()
    for n in range(DECISIONS_KEPT + 20):
        assert state.remember(decision(wanted=n))
    assert len(state.decisions) == DECISIONS_KEPT
    assert [d.wanted for d in state.decisions[-2:]] == [DECISIONS_KEPT + 18, DECISIONS_KEPT + 19]


def test_a_look_that_saw_and_did_the_same_is_not_kept_again():
    state = FleetState()
    assert state.remember(decision())
    assert not state.remember(decision(by="host/2", at=datetime(2030, 1, 1, tzinfo=UTC)))
    assert state.remember(decision(launched=["i-1"]))
    assert state.remember(decision())
    assert len(state.decisions) == 3


def test_a_full_state_survives_json():
    at = datetime.now(UTC)
    state = FleetState(
        holder="abc",
        launched={"i-1": Launched(at=at, request_id="r", ending=True)},
        not_ready=["i-0"],
        launch_failures=2,
        launch_error="no",
        no_launch_before=at,
        ended_seconds=1.5,
        ended_images=3,
        decisions=[decision(why=["because"])],
    )
    assert FleetState.model_validate_json(state.model_dump_json()) == state


def test_states_do_not_share_their_lists():
    FleetState().not_ready.append("i-1")
    assert FleetState().not_ready == []
