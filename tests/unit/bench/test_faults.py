"""What the bench under faults draws happens, and is counted."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from bench.faults.attacks import FAULTS, TIMED_OUT, Kind, attacks_on
from bench.faults.aws import FaultyEndpoint
from bench.faults.load import Seen, Sent
from bench.faults.rules import Action, Call, Hit, Rule, Rules
from bench.faults.verdict import explained, explanation, table_of
from cloud.clients import WITHOUT_RETRIES
from local.driver import ROOT, eventually
from tests.support.local_aws import ONE_TRY, client_of

SKEWED_CLOCK = ROOT / "bench" / "faults" / "skewed_clock"
AT = "2026-01-01T00:10:00+00:00"
ANSWERED = 1767226200.0  # the same in seconds


# Rules


def call(
    operation: str = "PutObject", tier: str = "controller", body: bytes = b"", path: str = "/b/k"
) -> Call:
    return Call("s3", operation, tier, path, body)


def test_a_rule_hits_only_what_it_matches():
    rule = Rule("x", Action.LOSE, service="s3", operation="PutObject", tier="controller", path="k", body="he")
    assert rule.hits(call(body=b"the holder"))
    for other in (call("GetObject"), call(tier="worker"), call(), call(body=b"he", path="/b/other")):
        assert not rule.hits(other)


def test_the_nth_call_is_hit_once():
    rule = Rule("x", "kill before", skip=2, most=1)
    assert [rule.hits(call()) for _ in range(5)] == [False, False, True, False, False]


def test_the_same_seed_hits_the_same_calls():
    one, same, other = (Rule("x", Action.LOSE, probability=0.5, seed=seed) for seed in (1, 1, 2))
    hits = [[rule.hits(call()) for _ in range(50)] for rule in (one, same, other)]
    assert hits[0] == hits[1] != hits[2]
    assert 10 < sum(hits[0]) < 40


def test_a_rule_ends():
    now = [0.0]
    rules = Rules(clock=lambda: now[0])
    rules.add({"fault": "x", "action": "lose", "lasts": 10})
    assert rules.drawn_for(call())
    now[0] = 11.0
    assert rules.drawn_for(call()) is None
    assert not rules.in_force


# The endpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FaultyEndpoint]:
    endpoint = FaultyEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def client(endpoint):
    endpoint.reset()
    endpoint.rules.lift()
    endpoint.rules.hit.clear()

    return lambda service: client_of(endpoint, service, ONE_TRY)


def put_in_force(endpoint, **rule):
    reply = requests.post(f"{endpoint.url}/_local/faults", json=rule, auth=endpoint.key, timeout=5)
    assert reply.status_code == 204


@pytest.mark.parametrize(
    ("service", "operation", "code", "status"),
    [
        ("ec2", "describe_instances", "RequestLimitExceeded", 503),
        ("s3", "list_buckets", "SlowDown", 503),
        ("sqs", "list_queues", "RequestThrottled", 400),
    ],
)
def test_a_call_is_refused_with_the_error_that_was_drawn(endpoint, client, service, operation, code, status):
    put_in_force(endpoint, fault="x", action="refuse", service=service, code=code, status=status, most=1)
    with pytest.raises(ClientError) as error:
        getattr(client(service), operation)()
    assert error.value.response["Error"]["Code"] == code
    getattr(client(service), operation)()
    assert len(endpoint.rules.hit) == 1


def test_a_call_whose_reply_is_lost_is_carried_out(endpoint, client):
    s3 = client("s3")
    s3.create_bucket(Bucket="photos")
    put_in_force(endpoint, fault="x", action="lose", operation="PutObject", most=1)
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket="photos", Key="k", Body=b"x")
    assert s3.get_object(Bucket="photos", Key="k")["Body"].read() == b"x"


def test_a_reply_whose_body_is_cut_comes_with_its_headers_and_half_of_it(endpoint, client):
    s3 = client("s3")
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="k", Body=b"x" * 1000)
    put_in_force(endpoint, fault="x", action="cut body", operation="GetObject", most=1)
    reply = s3.get_object(Bucket="photos", Key="k")
    assert reply["ContentLength"] == 1000
    with pytest.raises((ResponseStreamingError, ReadTimeoutError)):
        reply["Body"].read()
    assert len(s3.get_object(Bucket="photos", Key="k")["Body"].read()) == 1000


def test_a_call_that_is_carried_out_twice_gets_the_second_reply(endpoint, client):
    s3, sqs = client("s3"), client("sqs")
    s3.create_bucket(Bucket="photos")
    url = sqs.create_queue(QueueName="requests")["QueueUrl"]
    put_in_force(endpoint, fault="x", action="twice", most=2)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="photos", Key="k", Body=b"x", IfNoneMatch="*")
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert s3.get_object(Bucket="photos", Key="k")["Body"].read() == b"x"
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 2


def test_calls_are_recorded_with_their_places(endpoint, client):
    s3, sqs = client("s3"), client("sqs")
    for bucket in ("photos", "state"):
        s3.create_bucket(Bucket=bucket)
    sqs.create_queue(QueueName="requests")
    endpoint.rules.calls.clear()
    s3.put_object(Bucket="photos", Key="4f2a/0001-cat.jpg", Body=b"x")
    for body in (b'{"holder":"me"}', b'{"holder":null}'):
        s3.put_object(Bucket="state", Key="fleet/state", Body=body)
    s3.list_objects_v2(Bucket="state", Prefix="open/")
    sqs.get_queue_url(QueueName="requests")
    client("ec2").describe_instances()
    calls = requests.get(f"{endpoint.url}/_local/faults/calls", auth=endpoint.key, timeout=5).json()
    assert {(operation, place): number for _, _, operation, place, number in calls} == {
        ("PutObject", "photos"): 1,
        ("PutObject", "state/fleet/state held"): 1,
        ("PutObject", "state/fleet/state"): 1,
        ("ListObjectsV2", "state/open/"): 1,
        ("GetQueueUrl", "requests"): 1,
        ("DescribeInstances", ""): 1,
    }


def test_each_fault_attacks_each_call_in_the_middle_of_a_round_and_nothing_else():
    kinds = [Kind("worker", "s3", "GetObject", "in"), Kind("controller", "ec2", "RunInstances", "")]
    attacks = attacks_on([(kinds[0], 8), (kinds[1], 1)])
    assert len({str(attack) for attack in attacks}) == 2 * len(FAULTS)
    get, run = (Rule(**next(a for a in attacks if a.kind == kind).rule()) for kind in kinds)
    assert (get.skip, run.skip) == (4, 0)
    assert get.matches(Call("s3", "GetObject", "worker", place="in"))
    assert not get.matches(Call("s3", "GetObject", "controller", place="in"))
    assert not get.matches(Call("s3", "GetObject", "worker", place="out"))
    [timeout] = {a.rule()["seconds"] for a in attacks if a.kind == kinds[1] and a.fault == TIMED_OUT}
    assert timeout > WITHOUT_RETRIES.read_timeout


def test_short_polls_see_no_messages_and_long_ones_do(endpoint, client):
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="requests")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    put_in_force(endpoint, fault="x", action="empty", body='"WaitTimeSeconds": 0')
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0)
    assert len(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)["Messages"]) == 1


CALLER = """
import boto3, sys
from botocore.config import Config
s3 = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
for key in ("first", "second", "third"):
    s3.put_object(Bucket="photos", Key=key, Body=b"x")
"""


def caller(endpoint, folder: Path) -> subprocess.Popen[bytes]:
    """A process that makes three calls, and that the endpoint takes for a worker of the system."""
    (folder / "worker.py").write_text(CALLER)
    access = {"AWS_ENDPOINT_URL": endpoint.url, "AWS_DEFAULT_REGION": "us-east-1"}
    return subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=folder,
        env={**os.environ, **access, **endpoint.key.environment()},
    )


@pytest.mark.parametrize(
    ("action", "stored"), [("kill before", ["first"]), ("kill after", ["first", "second"])]
)
def test_the_process_that_makes_the_second_call_is_killed(endpoint, client, tmp_path, action, stored):
    client("s3").create_bucket(Bucket="photos")
    put_in_force(endpoint, fault="x", action=action, skip=1, most=1)
    assert caller(endpoint, tmp_path).wait(20) == -9
    found = client("s3").list_objects_v2(Bucket="photos")["Contents"]
    assert [item["Key"] for item in found] == stored
    assert [hit.where for hit in endpoint.rules.hit] == ["PutObject"]


def test_a_paused_process_goes_on_after_a_while(endpoint, client, tmp_path):
    client("s3").create_bucket(Bucket="photos")
    put_in_force(endpoint, fault="x", action="pause after", skip=1, most=1, seconds=1.5)
    process = caller(endpoint, tmp_path)
    eventually(lambda: endpoint.rules.hit, 20)
    paused = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - paused > 1
    assert client("s3").list_objects_v2(Bucket="photos")["KeyCount"] == 3


def test_the_process_of_the_bench_itself_is_never_killed(endpoint, client):
    client("s3").create_bucket(Bucket="photos")
    put_in_force(endpoint, fault="x", action="kill before")
    client("s3").put_object(Bucket="photos", Key="k", Body=b"x")
    assert endpoint.rules.hit == []


# The clocks


def test_the_clock_of_one_tier_is_shifted(tmp_path):
    skew = tmp_path / "skew.json"
    skew.write_text(json.dumps({"worker": 3600, "controller": 0}))
    (tmp_path / "worker.py").write_text(
        "import time, datetime\n"
        "print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic())\n"
        "assert isinstance(datetime.datetime.strptime('2026', '%Y'), datetime.datetime)\n"
    )
    (tmp_path / "gunicorn.py").write_text((tmp_path / "worker.py").read_text())

    def clocks(module: str) -> list[float]:
        env = {**os.environ, "PYTHONPATH": str(SKEWED_CLOCK), "SKEW_FILE": str(skew)}
        told = subprocess.run([sys.executable, "-m", module], cwd=tmp_path, env=env, capture_output=True)
        return [float(word) for word in told.stdout.split()]

    here = time.time()
    (worker, worker_date, _), (controller, controller_date, _) = clocks("worker"), clocks("gunicorn")
    assert abs(worker - here - 3600) < 30
    assert abs(worker_date - worker) < 1
    assert abs(controller - here) < 30
    assert abs(controller_date - controller) < 1


# The verdict


def image(code: str, message: str = "x", filename: str = "cat.jpg"):
    return {
        "image_id": "i",
        "status": "failed",
        "label": None,
        "filename": filename,
        "answered_at": AT,
        "error": {"code": code, "message": message},
    }


def hits(fault: str, count: int, where: str = "", before: float = 5.0) -> list[Hit]:
    return [Hit(ANSWERED - before, fault, where)] * count


CANNOT_LAUNCH = "Workers cannot be launched. Check the controller's permissions: UnauthorizedOperation."


@pytest.mark.parametrize(
    ("failed", "drawn", "enough"),
    [
        (image("not_an_image", filename="notes.txt"), [], True),
        (image("not_an_image", filename="cat.jpg"), hits("kill a worker", 9), False),
        (image("gave_up"), hits("kill a worker", 3) + hits("lost replies", 2, "ReceiveMessage"), True),
        (image("gave_up"), hits("kill a worker", 4), False),
        (image("gave_up"), hits("kill a worker", 5, before=1000), False),
        (image("gave_up"), hits("lost replies", 9, "PutObject"), False),
        (image("no_workers", "Workers fail to start: 3 in a row"), hits("kill a worker", 3), True),
        (image("no_workers", "Workers fail to start: 3 in a row"), hits("kill a worker", 2), False),
        (
            image("no_workers", "Workers could not be launched for 5 minutes"),
            hits("ec2 errors", 2, "RunInstances"),
            True,
        ),
        (image("no_workers", "Workers could not be launched for 5 minutes"), [], False),
        (image("no_workers", CANNOT_LAUNCH), hits("sqs errors", 1, "RunInstances", before=600), True),
        (image("no_workers", CANNOT_LAUNCH), hits("sqs errors", 1, "CreateTags"), False),
        (image("storage_failed"), hits("s3 SlowDown", 10, "GetObject"), True),
        (image("storage_failed"), hits("s3 SlowDown", 10, "PutObject"), False),
        (image("image_missing"), hits("kill a worker", 99), False),
    ],
)
def test_a_failed_image_needs_faults_that_explain_it(failed, drawn, enough):
    assert bool(explanation(failed, ANSWERED - 60, drawn, max_receives=6)) == enough


def test_reasons_are_counted_and_what_no_fault_explains_is_named():
    sent = Sent("http://x", 2, ANSWERED - 60, images_seen=[image("image_missing"), image("not_an_image")])
    sent.images_seen[1]["filename"] = "notes.txt"
    reasons, unexplained = explained([sent], [], 6)
    assert reasons == {"image_missing: NOT EXPLAINED": 1, "not_an_image: a text file of the load": 1}
    assert len(unexplained) == 1


def test_an_answer_that_changes_is_noticed():
    seen, sent = Seen(), Sent("http://x", 1, 0.0)
    answer = {"complete": True, "images": [{**image("gave_up"), "status": "classified", "label": "cat"}]}
    seen.note_answer(sent, answer)
    seen.note_answer(sent, answer)
    assert seen.changed == []
    answer["images"][0]["label"] = "dog"
    seen.note_answer(sent, answer)
    assert seen.changed == ["i"]


def test_the_table_counts_the_faults_by_call():
    drawn = [
        *hits("lost replies", 2, "PutObject"),
        *hits("lost replies", 1, "GetObject"),
        *hits("kill a worker", 1),
    ]
    assert [line.split() for line in table_of(drawn)] == [
        ["kill", "a", "worker", "1"],
        ["lost", "replies", "3", "PutObject", "2,", "GetObject", "1"],
    ]
